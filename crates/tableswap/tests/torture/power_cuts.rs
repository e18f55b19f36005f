//! P3 with a power cut: what is on the disk at any instant is one whole version, the last that was acknowledged or one
//! that was under way, and the next start needs no human.
//!
//! The servers run once on a disk that is recorded. Then the recording is cut at many places: behind any write, with all,
//! none or some of the writes that no flush had made durable. Each cut is a disk of its own, on which the servers start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::dice::Dice;
use crate::editions::{Edition, Editions};
use crate::file_site::FileSite;
use crate::findings::Findings;
use crate::mounts::Mount;
use crate::options::Options;
use crate::recording::{Recording, Unflushed};

const DISK_BYTES: usize = 64 << 20;
/// Cuts of the short form.
const CUTS: usize = 12;
/// What `fsync` and its kin do in the control run: nothing, with success. `-D` leaves the updater the child that the
/// test kit kills.
const NO_SYNC: &[&str] = &[
    "strace",
    "-D",
    "-f",
    "-qq",
    "-o",
    "/dev/null",
    "--seccomp-bpf",
    "-e",
    "trace=fsync,fdatasync,msync,sync_file_range,syncfs",
    "-e",
    "inject=fsync,fdatasync,msync,sync_file_range,syncfs:retval=0",
];

/// A change of what is live: it happened after `begun` events of the recording, and before `acknowledged`.
#[derive(Debug, Clone, Copy)]
struct Step {
    begun: usize,
    acknowledged: usize,
    version: u32,
    edition: u32,
}

/// Where and how the power goes.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: usize,
    unflushed: Unflushed,
    dice: u64,
}

struct Run {
    recording: Arc<Recording>,
    editions: Editions,
    steps: Vec<Step>,
    seed: u64,
}

#[test]
fn p3_a_power_cut_at_any_instant_leaves_one_whole_version() {
    let options = Options::read("power_cuts", CUTS);
    let findings = Findings::new("power_cuts");
    let run = Run::record(options.seed, 12 + options.rounds / 5, &[]);
    let (mut in_flight, mut unflushed) = (0, 0);
    for cut in run.cuts(options.rounds) {
        in_flight +=
            usize::from(run.steps.iter().any(|step| step.begun < cut.at && cut.at < step.acknowledged));
        unflushed += usize::from(cut.unflushed != Unflushed::All);
        if let Err(damage) = run.check(cut) {
            findings.report("P3 damage", format!("{cut:?} of {}: {damage}", run.recording.length()));
        }
    }
    let (steps, events) = (run.steps.len(), run.recording.length());
    let summary = format!(
        "{} cuts, {in_flight} while something was under way, {unflushed} that lost unflushed writes; {steps} steps, {events} \
         writes and flushes, {} flushes",
        options.rounds,
        run.recording.flushes()
    );
    if in_flight == 0 || unflushed == 0 {
        findings.report("precondition", "no cut hit a step that was under way, or none lost a write");
    }
    findings.conclude(&summary, "");
}

/// Proves that the test above can fail.
#[test]
fn without_fsync_a_power_cut_does_damage() {
    let options = Options::read("power_cuts without fsync", CUTS);
    let run = Run::record(options.seed, 12, NO_SYNC);
    let cuts = run.cuts(2 * CUTS);
    let found = cuts.into_iter().find_map(|cut| Some((cut, run.check(cut).err()?)));
    let Some((cut, damage)) = found else {
        panic!("an updater that syncs nothing lost nothing in {} cuts", 2 * CUTS);
    };
    println!("power_cuts without fsync: {cut:?}: {}", damage.lines().next().unwrap_or_default());
}

impl Run {
    /// Uploads, rollbacks and rolls forward on a disk that is recorded.
    fn record(seed: u64, steps: usize, tracer: &[&str]) -> Run {
        let recording = Arc::new(Recording::new(DISK_BYTES));
        let mount = Mount::recorded(&recording);
        let site = FileSite::start(mount.path(), tracer).unwrap_or_else(|error| panic!("{error}"));
        let mut run = Run { recording, editions: Editions::new(seed), steps: Vec::new(), seed };
        let mut dice = Dice::new(seed, 1000);
        for number in 0..steps {
            let rows = if dice.below(6) == 0 { 20_000 } else { dice.between(300, 900) };
            let edition = run.editions.next(rows);
            let roll_back = number > 2 && dice.below(3) == 0;
            run.step(&site, |site| publish(site, &edition));
            if roll_back {
                let listing = site.listing().unwrap_or_else(|error| panic!("{error}"));
                let (live, previous) = (listing.live.unwrap(), listing.previous().unwrap());
                run.step(&site, |site| bring_back(site, previous));
                run.step(&site, |site| bring_back(site, live));
            }
            // Some steps meet writes of the one before that the kernel has put off.
            std::thread::sleep(dice.millis(0, 400));
        }
        // What the kernel has put off comes within a second.
        std::thread::sleep(Duration::from_millis(1200));
        drop(site);
        run
    }

    fn step(&mut self, site: &FileSite, act: impl FnOnce(&FileSite) -> u32) {
        let begun = self.recording.length();
        let version = act(site);
        let acknowledged = self.recording.length();
        let edition = self.edition_of(site, version);
        self.steps.push(Step { begun, acknowledged, version, edition });
    }

    fn edition_of(&self, site: &FileSite, version: u32) -> u32 {
        let listing = site.listing().unwrap_or_else(|error| panic!("{error}"));
        let entry = listing.entries.iter().find(|entry| entry.version == version).unwrap();
        self.editions.of_sha256(&entry.sha256).unwrap()
    }

    /// A third of them at the very instant of an answer, when what was acknowledged must be durable; the others anywhere
    /// from the first answer on.
    fn cuts(&self, number: usize) -> Vec<Cut> {
        let mut dice = Dice::new(self.seed, 1001);
        let first = self.steps[0].acknowledged;
        let cut = |at: usize| {
            let unflushed = match dice.below(4) {
                0 => Unflushed::All,
                1 => Unflushed::None,
                _ => Unflushed::Some,
            };
            let at = if at.is_multiple_of(3) {
                self.steps[dice.below(self.steps.len())].acknowledged
            } else {
                dice.between(first, self.recording.length() + 1)
            };
            Cut { at, unflushed, dice: 2000 + at as u64 }
        };
        (0..number).map(cut).collect()
    }

    /// Starts the servers on what a cut left; what is wrong with it.
    fn check(&self, cut: Cut) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let mut dice = Dice::new(self.seed, cut.dice);
        std::fs::write(&image, self.recording.image_at(cut.at, cut.unflushed, &mut dice)).unwrap();
        let mount = Mount::image(&image)?;
        let site = FileSite::start(mount.path(), &[])?;
        self.check_site(&site, cut.at).map_err(|error| {
            let files = files(&mount.path().join("data/promotions"));
            format!("{error}; files {files:?}\n{}", site.logs())
        })
    }

    fn check_site(&self, site: &FileSite, cut: usize) -> Result<(), String> {
        let acknowledged = self.steps.iter().rev().find(|step| step.acknowledged <= cut).unwrap();
        let under_way = self.steps.iter().find(|step| step.begun < cut && cut < step.acknowledged);
        let listing = site.listing()?;
        let live = listing.live.ok_or("nothing is live")?;
        let step = [Some(acknowledged), under_way].into_iter().flatten().find(|step| step.version == live);
        let step = step.ok_or(format!("live is {live}, not of {acknowledged:?} or {under_way:?}"))?;
        site.check_whole(&self.editions, live, step.edition)?;
        if let Some(previous) = listing.previous() {
            let edition = self.steps.iter().find(|step| step.version == previous);
            let edition = edition.ok_or(format!("{previous} is kept and was never published"))?.edition;
            for (version, edition) in [(previous, edition), (live, step.edition)] {
                let answer = site.activate(version);
                if answer.0 != 200 {
                    return Err(format!("a rollback to {version} was answered with {answer:?}"));
                }
                site.check_whole(&self.editions, version, edition)?;
            }
        }
        let edition = self.editions.next(400);
        let (status, text) = site.upload(&edition, "?force=true");
        if status != 200 {
            return Err(format!("the next upload was answered with {status} {text}"));
        }
        let live = site.listing()?.live.ok_or("nothing is live after the next upload")?;
        site.check_whole(&self.editions, live, edition.number)
    }
}

fn publish(site: &FileSite, edition: &Edition) -> u32 {
    let (status, text) = site.upload(edition, "?force=true");
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text)
        .ok()
        .and_then(|json: serde_json::Value| crate::listing::number(&json["version"]))
        .unwrap()
}

fn bring_back(site: &FileSite, version: u32) -> u32 {
    let (status, text) = site.activate(version);
    assert_eq!(status, 200, "{text}");
    version
}

fn files(dir: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: &std::fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), size(&entry))).collect()
}
