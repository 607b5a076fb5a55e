//! What commands say and ask before they spend money on judges: how much it will be, and whether to go on.

use crate::error::Fault;
use crate::judging::batch::Costs;
use crate::judging::ready::Ready;
use indicatif::{ProgressBar, ProgressStyle};
use model::show;
use std::io::{IsTerminal, Write};

/// What may be spent without asking, in US dollars.
const UNASKED_USD: f64 = 1.0;

/// How far a command may go.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Money {
    /// Go on whatever it may cost.
    #[arg(long)]
    yes: bool,
    /// Spend at most this many US dollars; calls that do not fit are not asked about.
    #[arg(long, value_name = "USD")]
    limit: Option<f64>,
}

impl Money {
    /// In nano-dollars.
    ///
    /// # Errors
    /// When it is no amount.
    pub fn limit(self) -> Result<Option<u64>, Fault> {
        match self.limit {
            Some(usd) if !(0.0..=1e6).contains(&usd) => {
                Err(Fault::new(format!("--limit {usd} is no amount"), "give US dollars, such as --limit 2.50"))
            }
            limit => Ok(limit.map(|usd| (usd * 1e9) as u64)),
        }
    }

    /// Says what asking these judges would cost, on standard error, so that answers stay what they are.
    ///
    /// # Errors
    /// When it may be over a dollar and nobody said to go on.
    pub fn consent(self, costs: &[(&Ready, Costs)]) -> Result<(), Fault> {
        for (ready, costs) in costs {
            tell(&format!("{}: {}", ready.name(), described(ready, costs)));
        }
        let most: u64 = costs.iter().map(|(_, costs)| costs.most).fold(0, u64::saturating_add);
        if usd(most) <= UNASKED_USD || self.yes || self.limit.is_some() {
            return Ok(());
        }
        let hint = "go on with --yes, or bound it with --limit 1";
        Err(Fault::new(format!("that could cost up to {:.2} US dollars, and nothing was asked", usd(most)), hint))
    }
}

fn described(ready: &Ready, costs: &Costs) -> String {
    let unsuitable = match costs.unsuitable {
        0 => String::new(),
        count => format!(" ({} calls cannot be asked about)", show::number(count as f64)),
    };
    let requests = show::number(costs.requests as f64);
    match ready.models.iter().find(|model| model.price.is_none()) {
        Some(model) => format!("{requests} requests{unsuitable}; the price of {} is not known", model.name),
        None => format!("{requests} requests{unsuitable}, about {:.4} US dollars and at most {:.4}", usd(costs.about), usd(costs.most)),
    }
}

pub(super) fn usd(nano: u64) -> f64 {
    nano as f64 / 1e9
}

/// A line beside the answer.
pub(super) fn tell(line: &str) {
    // Nobody listening is no error.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A bar of so many calls, where somebody looks.
pub(super) fn progress(calls: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} calls  {msg}  {eta} left").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(calls as u64).with_style(style)
}
