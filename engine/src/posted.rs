//! What came of sending something away, whichever way: what the sender must know to decide whether it goes again, and how it says so.

use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
pub enum Posted {
    /// What names it there.
    Sent(String),
    /// It was not taken, and is to be tried again after this.
    Later(Duration),
    /// It was not taken, for a reason that may pass.
    Again(String),
    /// Nobody can say whether it was taken: the connection broke, or no answer came in time.
    Unknown(String),
    /// It will never be taken like this.
    Refused(String),
}
