//! The real tool that says whether metrics are as Prometheus expects them.

use std::io::Write;
use std::process::{Command, Stdio};

/// Where `make test` unpacks it.
const PROMTOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/usr/bin/promtool");

/// Fails the test if `promtool check metrics` has anything against the text.
pub fn check_metrics(text: &str) {
    let child = Command::new(PROMTOOL)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{PROMTOOL}: {error}; `make test` puts it there"));
    child.stdin.take().expect("was piped").write_all(text.as_bytes()).expect("promtool reads its input");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "promtool: {said}");
}
