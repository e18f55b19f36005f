//! Where and when it was measured.

use std::fs;
use std::num::NonZero;
use std::thread::available_parallelism;

/// What a figure depends on besides the code.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// Nothing where it was not needed.
    pub(crate) mariadb: Option<String>,
    pub(crate) wrk: String,
}

impl Machine {
    pub(crate) fn look(wrk: &str, mariadb: Option<String>) -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Machine {
            date: chrono::Utc::now().format("%Y-%m-%d").to_string(),
            cpu: value(&read("/proc/cpuinfo"), "model name").unwrap_or("an unknown processor").to_owned(),
            cores: available_parallelism().map_or(1, NonZero::get),
            memory_gib: gib(value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            mariadb,
            wrk: wrk.to_owned(),
        }
    }
}

/// The value of the first line `name : value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(other, _)| other.trim() == name).map(|(_, value)| value.trim())
}

/// From `24676544 kB`.
fn gib(kib: &str) -> f64 {
    kib.trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_names() {
        let text = "processor\t: 0\nmodel name\t: Some CPU\nprocessor\t: 1\n";
        assert_eq!(value(text, "model name"), Some("Some CPU"));
        assert_eq!(value(text, "model"), None);
        assert!((gib("25165824 kB") - 24.0).abs() < 1e-9);
    }
}
