//! How much room is left where a server writes.

use std::path::PathBuf;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

/// Shows the room on the disks of some directories; each is a place with a name.
#[derive(Debug)]
pub struct Disks {
    places: Vec<(&'static str, PathBuf)>,
    free: IntGaugeVec,
    all: IntGaugeVec,
}

impl Disks {
    /// For these directories.
    pub fn new(places: impl IntoIterator<Item = (&'static str, PathBuf)>) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["place"]);
        Ok(Self {
            places: places.into_iter().collect(),
            free: gauge("tableswap_disk_free_bytes", "Bytes that are free on the disk of a place.")?,
            all: gauge("tableswap_disk_bytes", "Bytes of the disk of a place, free or not.")?,
        })
    }
}

impl Collector for Disks {
    fn desc(&self) -> Vec<&Desc> {
        self.free.desc().into_iter().chain(self.all.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let number = |blocks: u64, size: u64| i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX);
        for (place, directory) in &self.places {
            // What cannot be asked keeps what was known of it.
            if let Ok(disk) = rustix::fs::statvfs(directory) {
                self.free.with_label_values(&[place]).set(number(disk.f_bavail, disk.f_frsize));
                self.all.with_label_values(&[place]).set(number(disk.f_blocks, disk.f_frsize));
            }
        }
        self.free.collect().into_iter().chain(self.all.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_there_has_room_and_one_that_is_not_is_left_out() {
        let directory = tempfile::TempDir::new().unwrap();
        let places = [("work", directory.path().to_owned()), ("versions", directory.path().join("none"))];
        let families = Disks::new(places).unwrap().collect();
        for family in &families {
            let [metric] = family.get_metric() else { panic!("{family:?}") };
            assert!(
                metric.get_label()[0].value() == "work" && metric.get_gauge().get_value() > 0.0,
                "{metric:?}"
            );
        }
        assert!(
            families[0].get_metric()[0].get_gauge().get_value()
                <= families[1].get_metric()[0].get_gauge().get_value()
        );
    }
}
