//! The rules of the ledger.

use super::*;

fn new_version() -> NewVersion {
    let datasets = dataset::Datasets::built_in().unwrap();
    let schema = datasets.single().unwrap().schema.clone();
    NewVersion {
        schema,
        definition_hash: "definition".into(),
        sha256: "content".into(),
        bytes: 0,
        rows: 0,
        source: String::new(),
        forced: false,
        keep_versions: 2,
    }
}

fn found(live: Option<u32>, present: &[u32]) -> Found {
    Found { live, present: present.to_vec(), ..Found::default() }
}

fn reserved(version: u32) -> Reserved {
    Reserved { version, load: String::new() }
}

fn begin(ledger: &mut Ledger) -> u32 {
    ledger.stage(None, new_version()).unwrap()
}

fn swap(ledger: &mut Ledger, version: u32) {
    ledger.announce(version);
    ledger.swapped(version);
}

fn with_published(count: u32) -> Ledger {
    let mut ledger = Ledger::default();
    for _ in 0..count {
        let version = begin(&mut ledger);
        swap(&mut ledger, version);
    }
    ledger
}

/// Two versions, of which the second has content of its own and was rolled back from.
fn rolled_back() -> Ledger {
    let mut ledger = with_published(1);
    let bad = NewVersion { sha256: "bad content".into(), ..new_version() };
    let version = ledger.stage(None, bad).unwrap();
    swap(&mut ledger, version);
    swap(&mut ledger, 1);
    ledger
}

fn states(ledger: &Ledger) -> String {
    ledger.entries().iter().map(|entry| format!("{}:{:?} ", entry.version, entry.state)).collect()
}

#[test]
fn going_back_withdraws_and_going_forward_keeps() {
    let mut ledger = with_published(2);
    assert_eq!(states(&ledger), "1:Kept 2:Live ");
    swap(&mut ledger, 1);
    assert_eq!(states(&ledger), "1:Live 2:Withdrawn ");
    swap(&mut ledger, 2);
    assert_eq!(states(&ledger), "1:Kept 2:Live ");
}

#[test]
fn a_number_is_never_used_again() {
    let mut ledger = with_published(2);
    swap(&mut ledger, 1);
    ledger.forget(0);
    assert_eq!(begin(&mut ledger), 3);
}

#[test]
fn a_number_that_only_a_table_remembers_is_not_used_again() {
    let mut ledger = Ledger::default();
    let taken = BTreeSet::from([41, 43]);
    ledger.reconcile(&Found { live: Some(42), taken, ..Found::default() });
    assert_eq!(begin(&mut ledger), 44);
}

#[test]
fn withdrawn_versions_expire_before_kept_ones() {
    let mut ledger = with_published(4);
    swap(&mut ledger, 3);
    let version = begin(&mut ledger);
    swap(&mut ledger, version);
    assert_eq!(states(&ledger), "1:Kept 2:Kept 3:Kept 4:Withdrawn 5:Live ");
    assert_eq!(ledger.expired(2), [1, 4]);
}

#[test]
fn a_crash_between_the_swap_and_its_entry_is_put_right() {
    let mut ledger = with_published(1);
    begin(&mut ledger);
    ledger.reconcile(&found(Some(2), &[1]));
    assert_eq!(states(&ledger), "1:Kept 2:Live ");
}

#[test]
fn a_crash_between_two_entries_of_a_rollback_is_put_right() {
    let mut ledger = with_published(2);
    ledger.change(1, |entry| entry.state = State::Live);
    ledger.reconcile(&found(Some(1), &[2]));
    assert_eq!(states(&ledger), "1:Live 2:Withdrawn ");
    assert!(!ledger.is_orphan(2) && !ledger.is_orphan(1) && !ledger.is_orphan(77));
}

#[test]
fn live_rows_that_somebody_took_away_are_not_called_live() {
    let mut ledger = with_published(1);
    ledger.reconcile(&found(None, &[]));
    assert_eq!(states(&ledger), "1:Dropped ");
}

#[test]
fn a_crash_before_the_swap_leaves_a_failed_version() {
    let mut ledger = with_published(2);
    begin(&mut ledger);
    ledger.reconcile(&found(Some(2), &[]));
    assert_eq!(states(&ledger), "1:Dropped 2:Live 3:Failed ");
    assert_eq!(ledger.get(3).unwrap().reason.as_deref(), Some("left behind by a crash"));
}

#[test]
fn a_name_that_is_taken_is_skipped_and_the_highest_number_does_not_overflow() {
    let mut ledger = with_published(1);
    ledger.reconcile(&Found { live: Some(1), taken: BTreeSet::from([2, 3, u32::MAX]), ..Found::default() });
    assert_eq!(ledger.next_version().unwrap(), 4);
    ledger.reconcile(&found(Some(u32::MAX), &[1]));
    assert!(matches!(ledger.next_version(), Err(Error::NoVersionNumber { newest: u32::MAX })));
}

#[test]
fn p8_the_version_that_was_live_last_stays_longest() {
    let mut ledger = with_published(3);
    swap(&mut ledger, 1);
    let version = begin(&mut ledger);
    swap(&mut ledger, version);
    assert_eq!(states(&ledger), "1:Kept 2:Kept 3:Withdrawn 4:Live ");
    assert_eq!(ledger.expired(1), [2, 3]);
}

#[test]
fn p4_a_swap_that_happened_is_known_whatever_came_after_it() {
    let mut ledger = with_published(1);
    let version = begin(&mut ledger);
    ledger.announce(version);
    let swap_number = ledger.get(version).unwrap().swap;
    assert!(!ledger.was_swapped(version, swap_number));
    ledger.reconcile(&found(Some(version), &[1]));
    swap(&mut ledger, 1);
    assert!(ledger.was_swapped(version, swap_number) && !ledger.is_discardable(version));
    ledger.announce(version);
    let second = ledger.get(version).unwrap().swap;
    assert!(!ledger.was_swapped(version, second), "this swap did not happen");
}

#[test]
fn a_load_that_still_receives_is_not_called_a_crash() {
    let mut ledger = with_published(1);
    let version = begin(&mut ledger);
    let receiving = BTreeSet::from([version]);
    ledger.reconcile(&Found { live: Some(1), receiving, ..Found::default() });
    assert_eq!(states(&ledger), "1:Live 2:Loading ");
}

#[test]
fn a_load_that_is_forced_past_a_later_one_gets_a_later_number() {
    let mut ledger = with_published(1);
    let slow = begin(&mut ledger);
    let later = begin(&mut ledger);
    swap(&mut ledger, later);
    assert_eq!(ledger.published_after(slow).map(|entry| entry.version), Some(3));
    assert_eq!(ledger.stage(Some(&reserved(slow)), new_version()).unwrap(), 4);
    assert_eq!(states(&ledger), "1:Kept 2:Superseded 3:Live 4:Loading ");
}

#[test]
fn p8_withdrawn_content_is_known_after_its_rows_are_gone() {
    let mut ledger = rolled_back();
    ledger.dropped(2);
    assert_eq!(ledger.withdrawn("bad content", "definition").map(|entry| entry.version), Some(2));
    assert!(ledger.withdrawn("bad content", "another definition").is_none());
    assert!(ledger.withdrawn("", "definition").is_none());
}

#[test]
fn p4_a_number_that_another_load_published_meanwhile_is_not_staged_again() {
    let mut ledger = with_published(2);
    let mine = Reserved { version: 2, load: "mine".into() };
    assert!(!ledger.is_own(&mine));
    assert_eq!(ledger.stage(Some(&mine), new_version()).unwrap(), 3);
    assert_eq!(states(&ledger), "1:Kept 2:Live 3:Loading ");
}

#[test]
fn p9_a_table_that_somebody_renamed_by_hand_is_kept_and_not_an_orphan() {
    let mut ledger = with_published(2);
    ledger.reconcile(&found(None, &[1, 2]));
    assert_eq!(states(&ledger), "1:Kept 2:Kept ");
    ledger.reconcile(&found(None, &[]));
    assert_eq!(states(&ledger), "1:Dropped 2:Dropped ");
    ledger.reconcile(&found(None, &[2]));
    assert!(states(&ledger) == "1:Dropped 2:Kept " && !ledger.is_orphan(2), "{}", states(&ledger));
    ledger.dropped(2);
    assert!(ledger.is_orphan(2));
}

#[test]
fn p8_withdrawn_content_is_not_forgotten_and_is_fine_again_once_it_was_published_again() {
    let mut ledger = rolled_back();
    ledger.dropped(2);
    ledger.forget(0);
    assert!(ledger.withdrawn("bad content", "definition").is_some());
    let again = NewVersion { sha256: "bad content".into(), ..new_version() };
    let version = ledger.stage(None, again).unwrap();
    swap(&mut ledger, version);
    assert!(ledger.withdrawn("bad content", "definition").is_none());
}
