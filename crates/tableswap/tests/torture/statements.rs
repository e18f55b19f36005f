//! A publisher's connection fails at a named statement while another updater acts.
//!
//! Nothing here knows which statements a publication sends: a first run records them, and each is then a place for a
//! fault. Everything that another updater can do while the first one is cut off is tried at each of them.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use testkit::{Command, FaultPoint, MariaDb, Statement, StatementFault, StatementProxy};

use crate::cluster::Backend;
use crate::dice::Dice;
use crate::findings::Findings;
use crate::options::Options;
use crate::oracle::{Oracle, is_of, states};
use crate::testbed::{Answer, Order, Running, Testbed, status, told};
use crate::workers::run_all;

/// What an idle updater sends within this time is none of a publication's: a little more than the longest pause
/// between two looks at the database.
const IDLE: Duration = Duration::from_millis(1500);

/// From the start of an operation to the statement where it fails.
const STRUCK_WITHIN: Duration = Duration::from_secs(20);

/// A table that has such a name and that no updater made.
const FOREIGN: &str = "CREATE TABLE promotions__v2000 (note VARCHAR(20)) SELECT 'not yours' AS note;
    CREATE TABLE orders (id INT PRIMARY KEY) SELECT 7 AS id";
const FOREIGN_ROWS: &str = "SELECT note, id FROM promotions__v2000, orders";

/// What the updater that meets the fault does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    FirstLoad,
    Load,
    Activate,
}

/// What the other updater does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meanwhile {
    Nothing,
    Loads,
    RollsBack,
    LoadsTwice,
}

const FAULTS: [(StatementFault, bool); 4] = [
    (StatementFault::CutBefore, false),
    (StatementFault::CutBefore, true),
    (StatementFault::LoseReply, false),
    (StatementFault::LoseReply, true),
];
const MEANWHILE: [Meanwhile; 4] =
    [Meanwhile::Nothing, Meanwhile::Loads, Meanwhile::RollsBack, Meanwhile::LoadsTwice];

/// The one statement that changes what readers see, and how statements begin that change anything.
const SWAP: &str = "RENAME TABLE";
const WRITES: [&str; 9] =
    [SWAP, "INSERT", "REPLACE", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "LOAD DATA"];

/// The version that is activated, of 3 that were loaded, and the one to which the other updater rolls back.
const ACTIVATED: u32 = 2;
const ROLLED_BACK_TO: u32 = 1;

#[derive(Clone, Debug)]
struct Case {
    operation: Operation,
    shape: String,
    occurrence: usize,
    fault: StatementFault,
    partition: bool,
    meanwhile: Meanwhile,
}

#[test]
fn p3_p4_p8_a_publisher_that_fails_at_any_statement_destroys_nothing() {
    let findings = Findings::new("statements");
    let options = Options::read("statements", MEANWHILE.len() * FAULTS.len());
    let is_long = cfg!(feature = "torture");
    // A case takes a third of the time of a round of the longer scenarios.
    let rounds = if is_long { options.rounds * 3 } else { options.rounds };
    let mut cases = Vec::new();
    let mut operations = vec![Operation::Load, Operation::Activate];
    operations.extend(is_long.then_some(Operation::FirstLoad));
    for operation in operations {
        let statements = record(operation, options.seed);
        for (shape, count) in &statements {
            findings.tell(format!("{operation:?} sends {count} times: {shape}"));
        }
        assert!(
            statements.iter().any(|(shape, _)| shape.contains("RENAME TABLE")),
            "no swap: {statements:?}"
        );
        cases.extend(all_cases(operation, &statements, is_long));
    }
    let all = cases.len();
    let chosen = choose(cases, rounds, options.seed);
    let name = |case: &Case| format!("{case:?}");
    run_all(&chosen, &findings, name, |case| run(case, options.seed, &findings));
    findings.conclude(&format!("{} of {all} cases", chosen.len()), "");
}

/// Every statement of an operation that no idle updater sends, and how often it is sent.
fn record(operation: Operation, seed: u64) -> Vec<(String, usize)> {
    let bed = Testbed::new(Backend::Mariadb, seed);
    let proxy = StatementProxy::start(MariaDb::shared().port());
    let updater = bed.updater_via(proxy.port());
    prepare(&bed, &updater, operation);
    proxy.take_statements();
    thread::sleep(IDLE);
    let idle = proxy.take_statements();
    assert_eq!(status(&updater.carry_out(&order(&bed, operation))), 200, "the recording run fails");
    let sent = proxy.take_statements();
    let idlers: BTreeSet<u64> = idle.iter().map(|statement| statement.connection).collect();
    // What a connection that was there before sends also when it opens anew is no part of a publication either.
    let of_idlers = sent.iter().filter(|statement| idlers.contains(&statement.connection));
    let common: BTreeSet<String> = idle.iter().chain(of_idlers).map(Statement::shape).collect();
    let mut found: Vec<(String, usize)> = Vec::new();
    for statement in sent.iter().filter(|statement| statement.command != Command::Prepare) {
        let shape = statement.shape();
        if common.contains(&shape) || idlers.contains(&statement.connection) {
            continue;
        }
        match found.iter_mut().find(|(other, _)| *other == shape) {
            Some((_, count)) => *count += 1,
            None => found.push((shape, 1)),
        }
    }
    found
}

/// Each first and last execution of a statement for a short run, every one for a long run.
fn all_cases(operation: Operation, statements: &[(String, usize)], is_long: bool) -> Vec<Case> {
    let executions = statements.iter().flat_map(|(shape, count)| {
        let all = (1..=*count).filter(|occurrence| is_long || [1, *count].contains(occurrence));
        all.map(move |occurrence| (shape, occurrence))
    });
    let mut cases = Vec::new();
    for (shape, occurrence) in executions {
        for (fault, partition) in FAULTS {
            for meanwhile in MEANWHILE {
                let shape = shape.clone();
                cases.push(Case { operation, shape, occurrence, fault, partition, meanwhile });
            }
        }
    }
    // There is nothing to go back to before the first load.
    cases.retain(|case| case.operation != Operation::FirstLoad || case.meanwhile != Meanwhile::RollsBack);
    cases
}

/// This number of cases, as different as can be: a fault meets an action of the other updater a second time, at the
/// swap or elsewhere, when each fault has met each action. What changes the database comes before what only reads.
fn choose(mut cases: Vec<Case>, rounds: usize, seed: u64) -> Vec<Case> {
    Dice::new(seed, 4).shuffle(&mut cases);
    cases.sort_by_key(|case| !WRITES.iter().any(|word| case.shape.starts_with(word)));
    let mut met: HashMap<String, usize> = HashMap::new();
    let mut ranked: Vec<(usize, Case)> = Vec::new();
    for case in cases {
        let is_swap = case.shape.contains(SWAP);
        let kind = format!("{:?} {} {:?} {is_swap}", case.fault, case.partition, case.meanwhile);
        let count = met.entry(kind).or_default();
        *count += 1;
        ranked.push((*count, case));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().take(rounds).map(|(_, case)| case).collect()
}

/// Three versions, unless the first load is what is tried.
fn prepare(bed: &Testbed, updater: &Running, operation: Operation) {
    if operation != Operation::FirstLoad {
        for _ in 0..3 {
            let answer = updater.carry_out(&bed.order_load());
            assert_eq!(status(&answer), 200, "{}", told(&answer));
        }
    }
}

fn order(bed: &Testbed, operation: Operation) -> Order {
    match operation {
        Operation::FirstLoad | Operation::Load => bed.order_load(),
        Operation::Activate => Order::Activate(ACTIVATED),
    }
}

fn run(case: &Case, seed: u64, findings: &Findings) {
    let bed = Testbed::new(Backend::Mariadb, seed);
    bed.database().execute(FOREIGN);
    let proxy = StatementProxy::start(MariaDb::shared().port());
    let (struck_one, other, api) = (bed.updater_via(proxy.port()), bed.updater(), bed.api());
    prepare(&bed, &struck_one, case.operation);
    let Case { operation, shape, occurrence, fault, partition, meanwhile } = case;
    let cut = if *partition { ", cut off" } else { "" };
    let short: String = shape.chars().take(90).collect();
    let name = format!("{operation:?}, {fault:?}{cut} at {occurrence} of [{short}], other {meanwhile:?}");
    let mut oracle = Oracle {
        bed: &bed,
        findings,
        case: name,
        api: &api,
        witness: &other,
        seen: Vec::new(),
        failed: Cell::default(),
    };
    oracle.observe("before");
    let point =
        FaultPoint { contains: shape.clone(), occurrence: *occurrence, fault: *fault, partition: *partition };
    proxy.arm(point);
    let order = order(&bed, *operation);
    let since = oracle.seen.len();
    let is_over = AtomicBool::new(false);
    let (answer, observed) = thread::scope(|scope| {
        let observer = scope.spawn(|| watch(&bed, &api, &is_over));
        let asked = scope.spawn(|| struck_one.try_order(&order));
        if proxy.wait_until_struck(STRUCK_WITHIN).is_none() {
            oracle.report("the fault did not strike", "");
        }
        let live = oracle.observe("struck");
        let was_live = live.is_some_and(|live| is_of(&order, live));
        let last = act(&mut oracle, *meanwhile, *partition);
        // The list is right where the other updater has just put it right.
        let kept = last.as_ref().map_or_else(BTreeSet::new, |_| kept(&oracle));
        proxy.release();
        let answer = asked.join().unwrap();
        if status(&answer) != 200 {
            oracle.check_not_destroyed(&kept);
        }
        oracle.findings.tell(format!("{}: answered {}", oracle.case, told(&answer)));
        let live = oracle.observe("answered");
        check_order(&oracle, &order, was_live, last.as_ref(), live);
        is_over.store(true, Ordering::Relaxed);
        (answer, observer.join().unwrap())
    });
    oracle.seen.extend(observed);
    oracle.check_answer(&struck_one, &order, &answer, since);
    if let Some(listing) = oracle.check_listing() {
        oracle.check_kept(&listing);
    }
    oracle.check_next_loads(&[&struck_one, &other]);
    let foreign = bed.database().try_execute(FOREIGN_ROWS);
    if foreign.as_deref() != Ok("not yours\t7") {
        oracle.report("P4 a foreign table was touched", format!("{foreign:?}"));
    }
    oracle.tell_logs(&[
        ("the updater under the fault", &struck_one),
        ("the other", &other),
        ("the api", &api),
    ]);
}

/// All that an api sees live: a version may come and go between two looks at the database, but each stays at least for
/// as long as a publication waits for its readers.
fn watch(bed: &Testbed, api: &Running, is_over: &AtomicBool) -> BTreeSet<(u32, u32)> {
    let mut seen = BTreeSet::new();
    let before = api.look_up(&bed.editions, 0).ok();
    while !is_over.load(Ordering::Relaxed) {
        seen.extend(api.look_up(&bed.editions, 0).ok().filter(|live| Some(*live) != before));
        thread::sleep(Duration::from_millis(15));
    }
    seen
}

/// The other updater acts, and its successes hold at once. Gives the last order that succeeded.
fn act(oracle: &mut Oracle<'_>, meanwhile: Meanwhile, is_cut_off: bool) -> Option<Order> {
    let orders = match meanwhile {
        Meanwhile::Nothing => Vec::new(),
        Meanwhile::Loads => vec![oracle.bed.order_load()],
        Meanwhile::RollsBack => vec![Order::Activate(ROLLED_BACK_TO)],
        Meanwhile::LoadsTwice => vec![oracle.bed.order_load(), oracle.bed.order_load()],
    };
    let mut last = None;
    for order in orders {
        let answer: Answer = oracle.witness.carry_out(&order);
        oracle.findings.tell(format!("{}: the other was told {}", oracle.case, told(&answer)));
        match status(&answer) {
            200 => {
                oracle.check_success(&order, &answer);
                last = Some(order);
            }
            // A connection that is still open may hold the lock.
            409 if !is_cut_off => {}
            // What was to be activated was dropped before the fault.
            404 if matches!(order, Order::Activate(_)) => {}
            _ => oracle.report("P4 another updater cannot publish", told(&answer)),
        }
        oracle.observe("the other has acted");
    }
    last
}

fn kept(oracle: &Oracle<'_>) -> BTreeSet<u32> {
    oracle.witness.listing().map(|listing| states(&listing, &["kept", "withdrawn"])).unwrap_or_default()
}

/// What the other updater published after it, or after it began, must not be undone by a load.
fn check_order(
    oracle: &Oracle<'_>,
    order: &Order,
    was_live: bool,
    last: Option<&Order>,
    live: Option<(u32, u32)>,
) {
    let Some(last) = last else { return };
    let is_last = live.is_some_and(|live| is_of(last, live));
    let may_follow = match (order, last) {
        // It was carried out before the other one acted, and not again.
        _ if was_live => false,
        // It began before the other load.
        (Order::Load(_), Order::Load(_)) => false,
        _ => true,
    };
    let is_own = live.is_some_and(|live| is_of(order, live));
    let is_expected = is_last || (may_follow && is_own);
    if !is_expected {
        oracle.report("P4 another updater's version was replaced", format!("live is {live:?}"));
    }
}
