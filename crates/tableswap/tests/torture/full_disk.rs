//! P9 and P8 on a disk that fills up: an upload is published or refused with 507, readers notice nothing, nothing is
//! left behind, and the previous version comes back even where not one byte is free.
//!
//! The disk is a real ext4, because what needs a block, and when, is its matter: a rename into a full directory, a file
//! that is cut, pages that get their blocks only when they are written back.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::checker::Checker;
use crate::dice::Dice;
use crate::editions::Editions;
use crate::file_site::FileSite;
use crate::findings::Findings;
use crate::history::History;
use crate::listing::{Listing, number};
use crate::mounts::Mount;
use crate::options::Options;
use crate::verdict::{FaultTimes, Reader};

const DISK_BYTES: u64 = 32 << 20;
const STEP_BYTES: u64 = 16 << 10;
/// Beside the rows the servers need room for a catalog and for what is under way.
const BESIDE_BYTES: u64 = 128 << 10;
/// A file larger than this holds rows, unless it is the catalog, which grows with its history, or the space reserved for it.
const ROWS_FILE_BYTES: u64 = 24 << 10;
/// A load that failed may be cleared away just after its answer.
const CLEARED_WITHIN: Duration = Duration::from_secs(2);

struct FullDisk<'a> {
    mount: &'a Mount,
    site: &'a FileSite,
    editions: &'a Editions,
    history: &'a History,
    findings: &'a Findings,
    rows: usize,
    /// Answers: published, refused for want of space, rollbacks.
    counts: [usize; 3],
}

#[test]
fn p8_p9_a_disk_that_fills_up_refuses_uploads_and_serves_on() {
    let options = Options::read("full_disk", 1);
    let (findings, editions, history) =
        (Findings::new("full_disk"), Editions::new(options.seed), History::default());
    let dir = tempfile::tempdir().unwrap();
    let mount = Mount::new_image(&dir.path().join("image"), DISK_BYTES);
    let site = FileSite::start(mount.path(), &[]).unwrap_or_else(|error| panic!("{error}"));
    let mut disk = FullDisk {
        mount: &mount,
        site: &site,
        editions: &editions,
        history: &history,
        findings: &findings,
        rows: 0,
        counts: [0; 3],
    };
    // A pass takes half a minute.
    for pass in 0..=options.rounds / 50 {
        disk.rows = Dice::new(options.seed, 3000 + pass as u64).between(4000, 8000);
        disk.pass();
    }
    let [published, refused, rollbacks] = disk.counts;
    if published == 0 || refused == 0 || rollbacks == 0 {
        findings.report("precondition", "not every answer was met");
    }
    let summary =
        format!("{published} published, {refused} answered with 507, {rollbacks} rollbacks on a full disk");
    findings.conclude(&summary, &site.logs());
}

impl FullDisk<'_> {
    /// From enough space to none, with readers all the time.
    fn pass(&mut self) {
        // As many versions as are kept, so that from now on each published one makes room for the next.
        for _ in 0..4 {
            self.fill_up_to(u64::MAX);
            self.upload();
        }
        let checker = Checker {
            name: "the api",
            port: self.site.api_port,
            editions: self.editions,
            findings: self.findings,
            answers: Mutex::default(),
        };
        let (stop, mut reader) = (AtomicBool::new(false), Reader::of(checker.name));
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| checker.run(&stop));
            let version_bytes =
                rows_files(self.mount.path()).iter().map(|(_, bytes)| *bytes).max().unwrap_or_default();
            let enough = (3 * version_bytes + BESIDE_BYTES).next_multiple_of(STEP_BYTES);
            for free in (0..=enough / STEP_BYTES).rev().map(|step| step * STEP_BYTES) {
                self.fill_up_to(free);
                self.findings.tell(format!("{free} bytes are free"));
                self.upload();
                if free < version_bytes {
                    self.fill_up_to(0);
                    self.roll_back_and_forward();
                }
                let answers = checker.take();
                reader.judge(&answers, &FaultTimes::default(), self.history, self.findings);
                self.history.judged();
            }
            stop.store(true, Ordering::Relaxed);
            reading.join().unwrap();
        });
        if reader.answers < 100 {
            self.findings.report("precondition", format!("only {} answers were read", reader.answers));
        }
        self.fill_up_to(u64::MAX);
        if self.upload() != 200 {
            self.findings.report("P9 no upload after space came back", "");
        }
    }

    /// Uploads a new edition; then the live version must be whole, and nothing else may be there.
    fn upload(&mut self) -> u16 {
        let edition = self.editions.next(self.rows);
        let before = self.listing().and_then(|listing| listing.live);
        let started = Instant::now();
        let (status, text) = self.site.upload(&edition, "?force=true");
        let times = (started, Instant::now());
        self.findings.tell(format!("upload of edition {}: {status} {text}", edition.number));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        match (status, number(&json["version"])) {
            (200, Some(version)) => {
                self.counts[0] += 1;
                self.history.published(version, edition.number, times);
            }
            (507, _) => {
                self.counts[1] += 1;
                self.history.refused(edition.number, 507);
            }
            (status, _) => {
                self.history.refused(edition.number, status);
                self.findings.report(&format!("P9 upload answered with {status}"), text);
            }
        }
        self.check(if status == 200 { number(&json["version"]) } else { before });
        status
    }

    fn roll_back_and_forward(&mut self) {
        let Some(listing) = self.listing() else { return };
        let (Some(live), Some(previous)) = (listing.live, listing.previous()) else {
            self.findings.report("P8 nothing to go back to", format!("{listing:?}"));
            return;
        };
        for version in [previous, live] {
            let started = Instant::now();
            let (status, text) = self.site.activate(version);
            self.findings.tell(format!("activation of version {version}: {status} {text}"));
            if status == 200 {
                self.counts[2] += 1;
                self.history.activated(version, (started, Instant::now()));
                self.check(Some(version));
            } else {
                let rule = format!("P8 rollback on a full disk answered with {status}");
                self.findings.report(&rule, text);
            }
        }
    }

    /// What the updater lists, which on a full disk it can, and the history that follows from it.
    fn listing(&self) -> Option<Listing> {
        let listing = self.site.listing();
        listing.inspect_err(|error| self.findings.report("P9 nothing is listed", error)).ok()
    }

    fn check(&self, must_be_live: Option<u32>) {
        let Some(listing) = self.listing() else { return };
        if must_be_live.is_some() && listing.live != must_be_live {
            self.findings
                .report("P9 another version is live", format!("{:?}, not {must_be_live:?}", listing.live));
        }
        let whole = listing.live.zip(listing.live.and_then(|live| self.history.edition_of(live)));
        if let Some((live, edition)) = whole
            && let Err(error) = self.site.check_whole(self.editions, live, edition)
        {
            self.findings.report("P9 the live version is not whole", error);
        }
        let broken = self.history.settle(self.editions, &listing, Instant::now());
        for broken in broken {
            self.findings.report("P9 the history is wrong", broken);
        }
        let stays = |state: &str| matches!(state, "live" | "kept" | "withdrawn");
        let versions = listing.entries.iter().filter(|entry| stays(&entry.state)).count();
        let deadline = Instant::now() + CLEARED_WITHIN;
        let mut files = rows_files(self.mount.path());
        while files.len() > versions && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            files = rows_files(self.mount.path());
        }
        if files.len() != versions {
            self.findings
                .report("P9 leftovers", format!("{versions} versions are listed, there are {files:?}"));
        }
    }

    /// Writes or cuts a file of no use until so many bytes are free.
    fn fill_up_to(&self, free: u64) {
        let path = self.mount.path().join("filler");
        let mut filler = File::options().create(true).append(true).open(path).unwrap();
        let length = filler.metadata().unwrap().len();
        let available = available_bytes(self.mount.path());
        if available < free {
            filler.set_len(length.saturating_sub(free.saturating_sub(available))).unwrap();
        }
        while available_bytes(self.mount.path()) > free {
            // In pieces of one block near the end, where the file system takes some for itself.
            let left = available_bytes(self.mount.path()) - free;
            let piece = vec![0; usize::try_from(left.saturating_sub(64 << 10).max(4096)).unwrap()];
            if filler.write_all(&piece).is_err() {
                break;
            }
        }
        filler.sync_all().unwrap();
    }
}

/// Free bytes as an unprivileged program sees them.
fn available_bytes(dir: &Path) -> u64 {
    let output = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(dir).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (blocks, size) = text.trim().split_once(' ').unwrap();
    blocks.parse::<u64>().unwrap() * size.parse::<u64>().unwrap()
}

/// The files of the store and of its work directory that are large enough to hold rows.
fn rows_files(root: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut dirs = vec![root.join("data"), root.join("work")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            // It may have been removed since.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                dirs.push(entry.path());
            } else if metadata.len() > ROWS_FILE_BYTES && !is_kept_beside_rows(&entry.path()) {
                found.push((entry.path(), metadata.len()));
            }
        }
    }
    found
}

/// The catalog, and the space that is kept back for it.
fn is_kept_beside_rows(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name == "reserve" || name.contains("catalog")
}
