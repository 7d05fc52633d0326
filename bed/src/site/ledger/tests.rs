use super::*;

const A: NodeIndex = NodeIndex::Lower;
const B: NodeIndex = NodeIndex::Upper;

fn ledger(a: &str, b: &str) -> Ledger {
    let mut ledger = Ledger::default();
    for (node, text) in [(A, a), (B, b)] {
        ledger.take(node, text.replace("; ", "\n").as_bytes()).expect("it makes sense");
    }
    ledger
}

fn tree(versions: &[(&str, u64)]) -> Versions {
    versions.iter().map(|&(name, number)| (name.to_owned(), number)).collect()
}

fn pages(pages: &[(&str, u64)]) -> BTreeSet<Page> {
    pages.iter().map(|&(name, number)| Page { name: name.to_owned(), number }).collect()
}

#[test]
fn lines_are_read_as_they_are_written() {
    let page = Page { name: "a b/c".into(), number: 9 };
    for line in [
        Line::Start,
        Line::Change(Change { page: page.clone(), previous: 3, is_delete: false }),
        Line::Change(Change { page, previous: 3, is_delete: true }),
        Line::Safe(9),
        Line::End,
    ] {
        assert_eq!(Line::read(&line.to_string()), Some(line));
    }
    for wrong in ["", "write 1 x", "write x 1 a", "safe", "begin"] {
        assert_eq!(Line::read(wrong), None, "{wrong:?}");
    }
}

#[test]
fn what_was_acknowledged_must_be_in_the_tree() {
    let ledger = ledger("start; write 1 0 x; write 2 0 y; write 3 1 x; safe 2; write 4 0 z; ", "");
    assert!(ledger.lost(&tree(&[("x", 1), ("y", 2)])).is_empty());
    assert!(ledger.lost(&tree(&[("x", 3), ("y", 2)])).is_empty(), "a later one");
    assert_eq!(ledger.lost(&tree(&[("x", 1)])), pages(&[("y", 2)]));
    assert_eq!(ledger.lost(&tree(&[("x", 0), ("y", 2)])), pages(&[("x", 1)]), "an older one");
}

#[test]
fn a_later_deletion_excuses_and_an_acknowledged_one_is_wanted() {
    let all = "start; write 1 0 x; safe 1; delete 2 1 x; ";
    assert!(ledger(all, "").lost(&tree(&[])).is_empty());
    let all = "start; write 1 0 x; delete 2 1 x; safe 2; ";
    assert!(ledger(all, "").lost(&tree(&[])).is_empty());
    assert_eq!(ledger(all, "").lost(&tree(&[("x", 1)])), pages(&[("x", 2)]), "it is back");
    let later = ledger(all, "start; write 3 0 x; ");
    assert!(later.lost(&tree(&[("x", 3)])).is_empty(), "written anew on the other node");
}

#[test]
fn only_the_same_writers_changes_are_acknowledged() {
    let ledger = ledger("start; write 1 0 x; ", "start; write 2 0 y; safe 2; ");
    assert!(ledger.lost(&tree(&[("y", 2)])).is_empty());
    let again = super::tests::ledger("start; write 1 0 x; start; write 3 0 y; safe 3; ", "");
    assert!(again.lost(&tree(&[("y", 3)])).is_empty(), "nor those of one before it");
}

#[test]
fn what_was_not_acknowledged_must_be_somewhere() {
    // The first node died with 2 and 4 unsent; 5 may not have been made.
    let ledger = ledger(
        "start; write 1 0 x; safe 1; write 2 1 x; write 4 0 y; write 5 0 z; ",
        "start; write 6 1 x; write 7 0 w; ",
    );
    let now = tree(&[("x", 6)]);
    assert!(ledger.missing(&now, &pages(&[("x", 2), ("y", 4)])).is_empty());
    assert_eq!(ledger.missing(&now, &pages(&[("x", 2)])), pages(&[("y", 4)]));
    // 6 was written over 1, not over 2.
    assert_eq!(ledger.missing(&now, &pages(&[("y", 4)])), pages(&[("x", 2)]));
    assert_eq!(ledger.missing(&tree(&[]), &pages(&[("x", 2), ("y", 4)])), pages(&[("x", 6)]));
}

#[test]
fn a_change_that_may_not_have_been_made_replaces_only_if_it_is_found() {
    let all = "start; write 1 0 x; write 2 1 x; ";
    assert!(ledger(all, "").missing(&tree(&[("x", 1)]), &pages(&[])).is_empty());
    assert!(ledger(all, "").missing(&tree(&[("x", 2)]), &pages(&[])).is_empty());
    assert_eq!(ledger(all, "").missing(&tree(&[]), &pages(&[])), pages(&[("x", 1)]));
    let ended = ledger("start; write 1 0 x; write 2 1 x; end; ", "");
    assert_eq!(ended.missing(&tree(&[("x", 1)]), &pages(&[])), pages(&[("x", 2)]), "it was made");
}

#[test]
fn a_settled_ledger_wants_what_was_in_the_tree() {
    let text = "start\nwrite 1 0 x\nwrite 2 0 y\nwrite 3 1 x\n";
    let mut ledger = Ledger::default();
    ledger.take(A, text.as_bytes()).expect("it makes sense");
    // The writer rests before, or within, its change number 3.
    ledger.settle(&tree(&[("x", 1), ("y", 2), ("document", 0)]));
    assert_eq!(ledger.lost(&tree(&[("y", 2)])), pages(&[("x", 1)]));
    let text = format!("{text}write 4 2 y\nwri");
    ledger.take(A, text.as_bytes()).expect("half a line comes later");
    let now = tree(&[("x", 3), ("y", 4)]);
    assert!(ledger.lost(&now).is_empty() && ledger.missing(&now, &pages(&[])).is_empty());
    let missing = ledger.missing(&tree(&[("x", 1), ("y", 2)]), &pages(&[]));
    assert_eq!(missing, pages(&[("x", 3)]), "made after the ledger was settled");
    ledger.take(A, format!("{text}nonsense\n").as_bytes()).expect_err("no line");
}
