//! An api with hardly any processor time: 5 ms in every 100 ms, as a container with a small limit has under load.
//!
//! Its polls come late, and no answer may be older than what the last upload published.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cluster::Backend;
use crate::findings::Findings;
use crate::mounts::Mount;
use crate::options::Options;
use crate::testbed::{Order, Running, Testbed, status};

const PERIOD_MICROS: u32 = 100_000;
const QUOTA_MICROS: u32 = 5_000;

/// A group of processes with a limit, in whichever of the two forms the kernel has for processors.
struct Quota {
    group: PathBuf,
    _mount: Mount,
}

impl Quota {
    fn of(pid: u32) -> Quota {
        let mount = Mount::cgroup_of_processors();
        let group = mount.path().join(format!("tableswap-torture-{pid}"));
        fs::create_dir(&group).unwrap();
        if group.join("cpu.max").exists() {
            fs::write(group.join("cpu.max"), format!("{QUOTA_MICROS} {PERIOD_MICROS}")).unwrap();
        } else {
            fs::write(group.join("cpu.cfs_period_us"), PERIOD_MICROS.to_string()).unwrap();
            fs::write(group.join("cpu.cfs_quota_us"), QUOTA_MICROS.to_string()).unwrap();
        }
        fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
        Quota { group, _mount: mount }
    }

    /// How often the processes were held up.
    fn held_up(&self) -> u64 {
        let stat = fs::read_to_string(self.group.join("cpu.stat")).unwrap();
        let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // A group goes only when nobody is in it.
        let members = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        let above = self.group.with_file_name("cgroup.procs");
        for pid in members.lines() {
            let _ = fs::write(&above, pid);
        }
        let _ = fs::remove_dir(&self.group);
    }
}

fn keep_busy(api: &Running, bed: &Testbed, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let _ = api.look_up(&bed.editions, 1);
    }
}

#[test]
fn p2_p7_an_api_with_hardly_any_processor_time_answers_the_new_version() {
    for backend in [Backend::Embedded, Backend::Mariadb] {
        let options = Options::read(&format!("quota {backend:?}"), 30);
        let findings = Findings::new(&format!("quota {backend:?}"));
        let bed = Testbed::new(backend, options.seed);
        let (updater, api) = (bed.updater(), bed.api());
        let mut published = 0;
        let mut answers = 0;
        let mut unavailable = 0;
        let quota = Quota::of(api.server.id());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Other clients, so that there is never enough time.
            for _ in 0..4 {
                scope.spawn(|| keep_busy(&api, &bed, &stop));
            }
            for _ in 0..options.rounds {
                let order = bed.order_load();
                let Order::Load(edition) = &order else { unreachable!() };
                let answer = updater.carry_out(&order);
                if status(&answer) != 200 {
                    findings.report("precondition", format!("an upload was refused: {answer:?}"));
                    continue;
                }
                published += 1;
                match api.look_up(&bed.editions, 0) {
                    Ok((_, found)) if found == edition.number => answers += 1,
                    Ok(found) => {
                        findings
                            .report("P7 an old answer", format!("{found:?}, published {}", edition.number));
                    }
                    Err(why) if why.starts_with("503") => unavailable += 1,
                    Err(why) => findings.report("P1 no answer", why),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        if quota.held_up() < 10 || answers == 0 {
            findings.report("precondition", format!("held up {} times", quota.held_up()));
        }
        let held_up = quota.held_up();
        let summary = format!(
            "{published} uploads, {answers} answers, {unavailable} unavailable, held up {held_up} times"
        );
        findings.conclude(&summary, &api.server.log());
    }
}
