//! Tables: medians and maxima of what was measured, each contender beside clusterd.

/// The contender that the others are compared with.
pub const OURS: &str = "clusterd";
/// The same with the shortest interval that it takes: what must never be, holds for it, too.
pub const OURS_FAST: &str = "clusterd 10 ms";

/// What is asked of clusterd.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// So many times better than the first other contender.
    Times(f64),
    /// At most so many times what the first other contender takes.
    TimesTheirs(f64),
    /// At most this.
    AtMost(f64),
    /// Nothing at all, not even once.
    Never,
}

impl Goal {
    /// `own` and `theirs` are medians, `most` is the own maximum; what failed has met nothing.
    fn text(
        self,
        own: Option<f64>,
        most: Option<f64>,
        theirs: Option<f64>,
        failed: bool,
    ) -> String {
        let (goal, met) = match self {
            Goal::Times(times) => (
                format!(">= {} x", number(times)),
                own.zip(theirs).map(|(own, theirs)| theirs >= own * times),
            ),
            Goal::TimesTheirs(times) => (
                format!("<= {} x theirs", number(times)),
                own.zip(theirs).map(|(own, theirs)| own <= theirs * times),
            ),
            Goal::AtMost(most) => (format!("<= {}", number(most)), own.map(|own| own <= most)),
            Goal::Never => ("never".to_owned(), most.map(|most| most == 0.0)),
        };
        match met {
            Some(true) if !failed => format!("{goal}: met"),
            Some(_) => format!("{goal}: missed"),
            None => goal,
        }
    }
}

/// What was measured of one thing for one contender.
#[derive(Clone, Debug, Default)]
pub struct Series {
    values: Vec<f64>,
    open: usize,
    failed: bool,
}

impl Series {
    /// One more value. `open`: what it measures was not over when the watch ended.
    pub fn push(&mut self, value: f64, open: bool) {
        self.values.push(value);
        self.values.sort_by(f64::total_cmp);
        self.open += usize::from(open);
    }

    /// The middle, or the mean of the two in the middle; `None` of nothing.
    pub fn median(&self) -> Option<f64> {
        let upper = self.values.get(self.values.len() / 2)?;
        let lower = self.values.get((self.values.len() - 1) / 2)?;
        Some(f64::midpoint(*lower, *upper))
    }

    /// The largest.
    pub fn most(&self) -> Option<f64> {
        self.values.last().copied()
    }

    /// Whether one of what it measures was not over when the watch ended.
    pub fn is_open(&self) -> bool {
        self.open > 0
    }

    fn text(&self) -> String {
        let (Some(median), Some(most)) = (self.median(), self.most()) else {
            return if self.failed { "failed".into() } else { String::new() };
        };
        let open = match self.open {
            0 => String::new(),
            open => format!(", {open} of {} open", self.values.len()),
        };
        let failed = if self.failed { ", failed" } else { "" };
        match self.values.as_slice() {
            [_] => format!("{}{open}{failed}", number(median)),
            _ => format!("{} ({}){open}{failed}", number(median), number(most)),
        }
    }
}

/// Three digits that say something.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size < 0.001 => format!("{value:.6}"),
        size if size < 0.1 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    }
}

#[derive(Debug)]
struct Row {
    name: String,
    /// By contender.
    cells: Vec<Series>,
    goal: Option<Goal>,
}

/// One table.
#[derive(Debug)]
pub struct Table {
    title: String,
    contenders: Vec<String>,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Table {
    /// An empty one. The title says what is measured, in which unit.
    pub fn new(title: &str) -> Table {
        Table { title: title.into(), contenders: Vec::new(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Notes a value; rows and contenders are shown in the order in which they come first.
    pub fn put(&mut self, row: &str, contender: &str, value: f64, open: bool) {
        if let Some(series) = self.cell(row, contender) {
            series.push(value, open);
        }
    }

    /// Notes that something failed: it could not be measured, or its values are worth nothing.
    pub fn fail(&mut self, row: &str, contender: &str) {
        if let Some(series) = self.cell(row, contender) {
            series.failed = true;
        }
    }

    /// Says what is asked of a row that has values.
    pub fn ask(&mut self, row: &str, goal: Option<Goal>) {
        if let Some(row) = self.rows.iter_mut().find(|known| known.name == row) {
            row.goal = goal;
        }
    }

    fn cell(&mut self, row: &str, contender: &str) -> Option<&mut Series> {
        let column = place(&mut self.contenders, |known| known == contender, || contender.into());
        let new = || Row { name: row.into(), cells: Vec::new(), goal: None };
        let row = place(&mut self.rows, |known| known.name == row, new);
        let cells = &mut self.rows.get_mut(row)?.cells;
        cells.resize_with(cells.len().max(column + 1), Series::default);
        cells.get_mut(column)
    }

    /// In how many rows clusterd did what it must never do.
    pub fn forbidden(&self) -> usize {
        let did = |row: &&Row| {
            let named = self.contenders.iter().zip(&row.cells);
            let mut own = named.filter(|(name, _)| [OURS, OURS_FAST].contains(&name.as_str()));
            let seen = own.any(|(_, own)| own.most().is_some_and(|most| most > 0.0));
            row.goal == Some(Goal::Never) && seen
        };
        self.rows.iter().filter(did).count()
    }

    /// What is measured, in which unit.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Who is measured.
    pub fn contenders(&self) -> &[String] {
        &self.contenders
    }

    /// The rows: what, by contender, and what is asked of clusterd.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &[Series], Option<Goal>)> {
        self.rows.iter().map(|row| (row.name.as_str(), row.cells.as_slice(), row.goal))
    }

    /// What was measured of that contender in that row.
    pub fn series(&self, row: &str, contender: &str) -> Option<&Series> {
        let column = self.contenders.iter().position(|known| known == contender)?;
        self.rows.iter().find(|known| known.name == row)?.cells.get(column)
    }

    /// Adds a sentence below the table, once.
    pub fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|known| known == text) {
            self.notes.push(text.to_owned());
        }
    }

    /// As Markdown: the median, the maximum in brackets, how many times the median of clusterd it is, and
    /// what is asked of clusterd.
    pub fn markdown(&self) -> String {
        let ours = self.contenders.iter().position(|name| name == OURS);
        let mut head = vec![String::new()];
        for (column, name) in self.contenders.iter().enumerate() {
            head.push(name.clone());
            if ours.is_some_and(|ours| ours != column) {
                head.push("ratio".into());
            }
        }
        let asks = self.rows.iter().any(|row| row.goal.is_some());
        head.extend(asks.then(|| "asked".into()));
        let mut lines = vec![head.clone(), vec!["---".to_owned(); head.len()]];
        for Row { name, cells, goal } in &self.rows {
            let median = |column: usize| cells.get(column).and_then(Series::median);
            let mut line = vec![name.clone()];
            for column in 0..self.contenders.len() {
                line.push(cells.get(column).map(Series::text).unwrap_or_default());
                if ours.is_some_and(|ours| ours != column) {
                    line.push(match (median(column), ours.and_then(median)) {
                        (Some(theirs), Some(own)) if own > 0.0 => {
                            format!("{} x", number(theirs / own))
                        }
                        _ => String::new(),
                    });
                }
            }
            if asks {
                let (own, other) =
                    (ours.and_then(median), (0..).find(|column| ours != Some(*column)));
                let failed = ours.and_then(|ours| cells.get(ours)).is_some_and(|own| own.failed);
                let most = ours.and_then(|ours| cells.get(ours)).and_then(Series::most);
                let text = goal.map(|goal| goal.text(own, most, other.and_then(median), failed));
                line.push(text.unwrap_or_default());
            }
            lines.push(line);
        }
        let mut text = format!("### {}\n\n", self.title);
        for line in lines {
            text += &format!("| {} |\n", line.join(" | "));
        }
        for note in &self.notes {
            text += &format!("\n{note}\n");
        }
        text
    }
}

/// Where the wanted one is; it is put at the end if there is none.
fn place<T>(list: &mut Vec<T>, is: impl FnMut(&T) -> bool, make: impl FnOnce() -> T) -> usize {
    match list.iter().position(is) {
        Some(place) => place,
        None => {
            list.push(make());
            list.len() - 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let mut series = Series::default();
        assert_eq!(series.median(), None);
        for (value, median) in [(9.0, 9.0), (1.0, 5.0), (2.0, 2.0), (3.0, 2.5)] {
            series.push(value, false);
            assert_eq!(series.median(), Some(median));
        }
        assert_eq!(series.text(), "2.50 (9.00)");
    }

    #[test]
    fn a_table_compares_with_clusterd() {
        let mut table = Table::new("outage in ms");
        for value in [20.0, 10.0, 12.0] {
            table.put("power", OURS, value, false);
        }
        table.put("power", "other", 3000.0, false);
        table.put("cut", OURS, 0.0, false);
        table.put("cut", "other", 5.0, true);
        table.put("move", "other", 7.0, false);
        table.note("a note");
        table.note("a note");
        assert_eq!(
            table.markdown(),
            "### outage in ms\n\n\
             |  | clusterd | other | ratio |\n\
             | --- | --- | --- | --- |\n\
             | power | 12.0 (20.0) | 3000 | 250 x |\n\
             | cut | 0 | 5.00, 1 of 1 open |  |\n\
             | move |  | 7.00 |  |\n\
             \na note\n"
        );
    }

    #[test]
    fn goals_are_met_or_missed() {
        let mut table = Table::new("t");
        for (row, own, goal) in [
            ("a", 10.0, Goal::Times(2.0)),
            ("b", 10.0, Goal::Times(2.5)),
            ("g", 10.0, Goal::TimesTheirs(2.0)),
            ("h", 10.0, Goal::TimesTheirs(0.25)),
            ("c", 10.0, Goal::AtMost(10.0)),
            ("d", 10.0, Goal::AtMost(9.0)),
            ("f", 10.0, Goal::AtMost(11.0)),
        ] {
            table.put(row, OURS, own, false);
            table.put(row, "other", 20.0, false);
            table.ask(row, Some(goal));
        }
        table.fail("f", OURS);
        table.fail("e", OURS);
        table.put("e", "other", 1.0, false);
        table.ask("e", Some(Goal::AtMost(1.0)));
        let text = table.markdown();
        for end in [
            "| >= 2.00 x: met |",
            "| >= 2.50 x: missed |",
            "| <= 2.00 x theirs: met |",
            " x theirs: missed |",
            "| <= 10.0: met |",
            "| <= 9.00: missed |",
            "| f | 10.0, failed | 20.0 | 2.00 x | <= 11.0: missed |",
            "| e | failed | 1.00 |  | <= 1.00 |",
        ] {
            assert!(text.contains(end), "{end}: {text}");
        }
    }

    #[test]
    fn never_means_not_even_once() {
        let mut table = Table::new("t");
        for (row, values) in [("a", [0.0, 0.0, 0.0]), ("b", [0.0, 0.0, 0.1])] {
            for value in values {
                table.put(row, OURS, value, false);
            }
            table.ask(row, Some(Goal::Never));
        }
        let text = table.markdown();
        for end in ["| a | 0 (0) | never: met |", "| b | 0 (0.10) | never: missed |"] {
            assert!(text.contains(end), "{end}: {text}");
        }
        assert_eq!(table.forbidden(), 1);
    }

    #[test]
    fn without_clusterd_there_is_no_ratio() {
        let mut table = Table::new("t");
        table.put("row", "rsync", 1.0, false);
        assert_eq!(table.markdown(), "### t\n\n|  | rsync |\n| --- | --- |\n| row | 1.00 |\n");
    }
}
