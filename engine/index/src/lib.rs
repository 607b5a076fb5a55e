//! The index of calls: from it come "these calls", "all calls of this run" and "what did this user cost".
//!
//! A [`Writer`] takes a [`Row`] for each call and shows them at each commit; a [`Reader`], cheap to clone, searches, sums and counts. What is asked
//! is a [`Query`], whose language is in `QUERY.md`. Beside the rows stands the position up to which the stream is in them, in the same file, so that
//! after a kill the writer goes on right there. `METHOD.md` says how it is laid out, and why it is no search engine's library.
//!
//! Deliberately absent: the stream, payloads, verdicts (a query is told which calls have them), clocks, threads, and who may see what.

mod error;
mod group;
mod heavy;
mod keys;
mod pack;
mod parse;
mod query;
mod row;
mod sample;
mod search;
mod segment;
mod select;
mod state;
mod sums;
mod writer;
mod written;

pub use error::{Damage, IndexError};
pub use heavy::{HOURS_MAX, Heavy, Hitter, Hitters, Hot};
pub use keys::{Key, Number, Text};
pub use parse::{QUERY_MAX_BYTES, QueryError, TERMS_MAX};
pub use query::{Query, Unknown, VerdictIs};
pub use row::{NAME_MAX_BYTES, PROPERTIES_MAX, Row};
pub use sample::Sample;
pub use search::{Bar, Cursor, CursorError, Found, LIMIT_MAX, Order, RUN_MAX, Run, Times, Total};
pub use segment::discard;
pub use state::{Names, Reader};
pub use sums::{LABELS_MAX, Sum, Sums, SumsError, Totals};
pub use writer::{Opened, Retained, Sizes, Writer};
pub use written::{label_term, term};
