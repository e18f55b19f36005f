//! How a program ends that cannot go on: the error and its causes once, in words, and an exit code.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use crate::chain;

/// Says why a program ends. The log may not have been started, so this goes to stderr itself.
pub fn fail(program: &str, error: &(dyn Error + 'static)) -> ExitCode {
    // Where stderr is closed nobody can be told.
    let _ = writeln!(std::io::stderr(), "{program}: {}", chain(error));
    ExitCode::FAILURE
}
