//! Tables: medians and maxima of what was measured, each contender beside clusterd.

/// The contender that the others are compared with.
pub const OURS: &str = "clusterd";

/// What was measured of one thing for one contender.
#[derive(Clone, Debug, Default)]
pub struct Series {
    values: Vec<f64>,
    open: usize,
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

    fn text(&self) -> String {
        let (Some(median), Some(most)) = (self.median(), self.values.last()) else {
            return String::new();
        };
        let open = match self.open {
            0 => String::new(),
            open => format!(", {open} of {} open", self.values.len()),
        };
        match self.values.as_slice() {
            [_] => format!("{}{open}", number(median)),
            _ => format!("{} ({}){open}", number(median), number(*most)),
        }
    }
}

/// Three digits that say something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// One table.
#[derive(Debug)]
pub struct Table {
    title: String,
    contenders: Vec<String>,
    rows: Vec<(String, Vec<Series>)>,
    notes: Vec<String>,
}

impl Table {
    /// An empty one. The title says what is measured, in which unit.
    pub fn new(title: &str) -> Table {
        Table { title: title.into(), contenders: Vec::new(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Notes a value; rows and contenders are shown in the order in which they come first.
    pub fn put(&mut self, row: &str, contender: &str, value: f64, open: bool) {
        let column = place(&mut self.contenders, |known| known == contender, || contender.into());
        let row = place(&mut self.rows, |(known, _)| known == row, || (row.into(), Vec::new()));
        if let Some((_, cells)) = self.rows.get_mut(row) {
            cells.resize_with(cells.len().max(column + 1), Series::default);
            if let Some(series) = cells.get_mut(column) {
                series.push(value, open);
            }
        }
    }

    /// Adds a sentence below the table, once.
    pub fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|known| known == text) {
            self.notes.push(text.to_owned());
        }
    }

    /// As Markdown: the median, the maximum in brackets, and how many times the median of clusterd it is.
    pub fn markdown(&self) -> String {
        let ours = self.contenders.iter().position(|name| name == OURS);
        let mut head = vec![String::new()];
        for (column, name) in self.contenders.iter().enumerate() {
            head.push(name.clone());
            if ours.is_some_and(|ours| ours != column) {
                head.push("ratio".into());
            }
        }
        let mut lines = vec![head.clone(), vec!["---".to_owned(); head.len()]];
        for (name, cells) in &self.rows {
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
             | cut | 0.00 | 5.00, 1 of 1 open |  |\n\
             | move |  | 7.00 |  |\n\
             \na note\n"
        );
    }

    #[test]
    fn without_clusterd_there_is_no_ratio() {
        let mut table = Table::new("t");
        table.put("row", "rsync", 1.0, false);
        assert_eq!(table.markdown(), "### t\n\n|  | rsync |\n| --- | --- |\n| row | 1.00 |\n");
    }
}
