//! An updater on files that is killed, or gets an error, at one system call of a load or of an activation.
//!
//! Nothing here knows which calls a publication makes: a first run under `strace` records them, and each is then a
//! place for a fault. What is on the disk afterwards is judged through servers that are started anew, as after a crash.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cluster::Backend;
use crate::dice::Dice;
use crate::findings::Findings;
use crate::options::Options;
use crate::oracle::Oracle;
use crate::testbed::{Order, Running, Testbed, status, told};
use crate::workers::run_all;

/// Calls that change what is on the disk.
const CALLS: &str = "rename,renameat,renameat2,fsync,fdatasync,msync,sync_file_range,unlink,unlinkat,link,linkat,\
    write,pwrite64,writev,pwritev,ftruncate,fallocate,copy_file_range";

/// Threads share their work differently each time, so a thread's third call can be the third only now and then.
const TRIES: usize = 5;

/// What strace does in place of the call. What a kill behind a call leaves is what one at the next call leaves.
const FAULTS: [&str; 3] = ["signal=SIGKILL", "error=EIO", "error=ENOSPC"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    FirstLoad,
    Load,
    Activate,
}

/// The `number`-th time that a thread makes a call on a path; strace counts for each thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    call: String,
    /// Below the directory of the data, as `promotions/catalog.json`.
    path: String,
    number: usize,
}

#[derive(Clone, Debug)]
struct Case {
    operation: Operation,
    place: Place,
    fault: &'static str,
}

#[test]
fn p3_p8_p9_a_fault_at_any_system_call_leaves_the_old_or_the_new_version() {
    let findings = Findings::new("system_calls");
    let options = Options::read("system_calls", 24);
    let is_long = cfg!(feature = "torture");
    let mut cases = Vec::new();
    for operation in [Operation::Load, Operation::Activate, Operation::FirstLoad] {
        let places = record(operation, options.seed);
        assert!(places.iter().any(|place| place.call.starts_with("rename")), "no swap: {places:?}");
        for place in places {
            findings.tell(format!("{operation:?} makes {place:?}"));
            cases.extend(FAULTS.map(|fault| Case { operation, place: place.clone(), fault }));
        }
    }
    let all = cases.len();
    Dice::new(options.seed, 5).shuffle(&mut cases);
    // Renames and flushes are few, and order matters there most.
    cases.sort_by_key(|case| case.place.call.contains("write"));
    cases.truncate(if is_long { options.rounds * 3 } else { options.rounds });
    let missed = AtomicUsize::new(0);
    let name = |case: &Case| format!("{case:?}");
    run_all(&cases, &findings, name, |case| {
        if !(0..TRIES).any(|_| run(case, options.seed, &findings)) {
            findings.tell(format!("the fault did not strike: {case:?}"));
            missed.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (missed, met) = (missed.into_inner(), cases.len());
    if missed * 4 > met {
        findings.report("most faults must strike", format!("{missed} of {met} did not"));
    }
    findings.conclude(&format!("{met} of {all} cases, {missed} did not strike"), "");
}

/// An updater under strace, which runs beside it and not above it: what the test kills is the updater.
fn traced(bed: &Testbed, inject: &[&str]) -> Running {
    let log = bed.path().join("strace.log");
    let trace = format!("trace={CALLS}");
    // Without --seccomp-bpf, with which strace 6.1 delivers no signal.
    let arguments = [
        &["-D", "-f", "-y", "-qq", "-s", "0", "-o", log.to_str().unwrap()][..],
        &["-e", &trace, "-e", "signal=none"],
        inject,
    ]
    .concat();
    bed.updater_under("strace", &arguments)
}

fn log(bed: &Testbed) -> String {
    fs::read_to_string(bed.path().join("strace.log")).unwrap_or_default()
}

/// Where an operation changes something below the directory of the data.
fn record(operation: Operation, seed: u64) -> BTreeSet<Place> {
    let bed = Testbed::new(Backend::Embedded, seed);
    prepare(&bed, operation);
    let updater = traced(&bed, &[]);
    assert_eq!(status(&updater.try_order(&order(&bed, operation))), 200, "the recording run fails");
    let root = bed.path().join("data").canonicalize().unwrap();
    let root = format!("{}/", root.display());
    let mut counts: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for line in log(&bed).lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        let Some(path) = first_path(arguments, &root) else { continue };
        *counts.entry((thread.to_owned(), call.to_owned(), path)).or_default() += 1;
    }
    let place = |(key, count): (&(String, String, String), &usize)| {
        let (call, path) = (key.1.clone(), key.2.clone());
        // Of hundreds of rows that are written, the first, the last and one in the middle.
        let numbers = BTreeSet::from([1, 2, count.div_ceil(2), *count]);
        let numbers = numbers.into_iter().filter(|number| *number <= *count).collect::<Vec<_>>();
        numbers.into_iter().map(move |number| Place { call: call.clone(), path: path.clone(), number })
    };
    counts.iter().flat_map(place).collect()
}

/// The first path of a call that lies below `root`: an argument in quotes, or what a descriptor stands for.
fn first_path(arguments: &str, root: &str) -> Option<String> {
    let (_, rest) = arguments.split_once(root)?;
    let path = rest.split(['"', '>']).next()?;
    // Once it is removed, a descriptor's file has this behind its name.
    Some(path.trim_end_matches("(deleted)").to_owned())
}

/// Three versions by an updater that no fault meets, so that the traced one makes the calls of one operation alone.
fn prepare(bed: &Testbed, operation: Operation) {
    if operation == Operation::FirstLoad {
        return;
    }
    let updater = bed.updater();
    for _ in 0..3 {
        let answer = updater.carry_out(&bed.order_load());
        assert_eq!(status(&answer), 200, "{}", told(&answer));
    }
}

fn order(bed: &Testbed, operation: Operation) -> Order {
    match operation {
        Operation::FirstLoad | Operation::Load => bed.order_load(),
        Operation::Activate => Order::Activate(2),
    }
}

/// Whether the fault struck.
fn run(case: &Case, seed: u64, findings: &Findings) -> bool {
    let bed = Testbed::new(Backend::Embedded, seed);
    prepare(&bed, case.operation);
    let Case { operation, place: Place { call, path, number }, fault } = case;
    let path_below = bed.path().canonicalize().unwrap().join("data").join(path);
    let inject = format!("inject={call}:{fault}:when={number}");
    let updater = traced(&bed, &["-P", path_below.to_str().unwrap(), "-e", &inject]);
    let order = order(&bed, *operation);
    let answer = updater.try_order(&order);
    let has_struck = match *fault {
        "signal=SIGKILL" => updater.get("/healthz").is_err(),
        _ => log(&bed).contains("(INJECTED)"),
    };
    updater.server.kill();
    let (witness, api) = (bed.updater(), bed.api());
    let name = format!("{operation:?}, {fault} at {number} of {call} on {path}");
    let mut oracle = Oracle {
        bed: &bed,
        findings,
        case: name,
        api: &api,
        witness: &witness,
        seen: Vec::new(),
        failed: Cell::default(),
    };
    findings.tell(format!("{}: struck {has_struck}, answered {}", oracle.case, told(&answer)));
    judge(&mut oracle, *operation, &order, &answer, fault);
    oracle.tell_logs(&[("the updater under the fault", &updater), ("the next", &witness), ("the api", &api)]);
    has_struck
}

fn judge(
    oracle: &mut Oracle<'_>,
    operation: Operation,
    order: &Order,
    answer: &Result<testkit::http::Response, String>,
    fault: &str,
) {
    let is_empty = operation == Operation::FirstLoad
        && oracle
            .api
            .get("/promotions/00000000-0000-4000-8000-000000000000")
            .is_ok_and(|it| it.status == 404)
        && oracle.witness.listing().is_ok_and(|listing| listing.live.is_none());
    if is_empty {
        if status(answer) == 200 {
            oracle.report("P7 200 for what is not live", told(answer));
        }
    } else if let Some(listing) = oracle.check_listing() {
        // A killed updater answers nothing, and either version may be live.
        if fault != "signal=SIGKILL" || status(answer) != 0 {
            oracle.check_answer(oracle.witness, order, answer, 0);
        }
        oracle.check_kept(&listing);
    }
    oracle.check_next_loads(&[oracle.witness]);
}
