//! The binary: reads the command line and hands over. Exit codes: 0 well, 1 the thing asked for is not well (`check`, `doctor`, `publish`, `replay`), 2 it could not be done,
//! 3 warnings that were to count (`check --lint-fatal`).

use std::process::ExitCode;

fn main() -> ExitCode {
    streamgauge::cli::main()
}
