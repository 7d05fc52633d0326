//! What was dropped, by reason: told in the log when it has grown, at a bounded rate.

use std::collections::BTreeMap;

/// Everything that is counted, by its words.
pub type Counts = BTreeMap<String, u64>;

/// What has grown from `before` to `after`, as one sentence; `None`: nothing.
pub fn growth(before: &Counts, after: &Counts) -> Option<String> {
    let grown: Vec<String> = after
        .iter()
        .filter_map(|(reason, &count)| {
            let more = count.saturating_sub(before.get(reason).copied().unwrap_or(0));
            (more > 0).then(|| format!("{reason} {more}"))
        })
        .collect();
    (!grown.is_empty()).then(|| format!("dropped lately: {}", grown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_grown_is_told() {
        let counts = |lan, serial| -> Counts {
            [("lan: queue full".to_owned(), lan), ("serial: queue full".to_owned(), serial)].into()
        };
        assert_eq!(growth(&counts(3, 4), &counts(3, 4)), None);
        let told = growth(&counts(3, 4), &counts(3, 9));
        assert_eq!(told.as_deref(), Some("dropped lately: serial: queue full 5"));
        assert!(growth(&Counts::new(), &counts(1, 0)).is_some());
    }
}
