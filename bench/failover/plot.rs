//! The outages as a picture: one band for each fault, in it one lane for each contender; a dot at the
//! median, a line to the maximum, on a logarithmic scale. A ring instead of a dot: still open when the
//! watch ended. A tick: what is asked of clusterd.

use crate::table::{Goal, OURS, Table};

/// One for each contender, told apart by the colour-blind too (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#d55e00", "#0072b2", "#56b4e9", "#009e73", "#000000", "#cc79a7", "#e69f00"];
/// The scale, in powers of ten of a millisecond.
const DECADES: std::ops::RangeInclusive<i32> = 0..=5;
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 220.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 40.0;
const LANE: f64 = 12.0;
/// Room between two bands.
const GAP: f64 = 10.0;

/// Where a time is on the scale; what is shorter than its begin is put there.
fn x(ms: f64) -> f64 {
    let (first, last) = (f64::from(*DECADES.start()), f64::from(*DECADES.end()));
    let part = (ms.max(f64::MIN_POSITIVE).log10().clamp(first, last) - first) / (last - first);
    LEFT + part * (WIDTH - LEFT - RIGHT)
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n")
}

fn line(from: (f64, f64), to: (f64, f64), colour: &str, width: f64) -> String {
    let ((x1, y1), (x2, y2)) = (from, to);
    format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
         stroke-width=\"{width}\"/>\n"
    )
}

/// The picture of a table of times in ms.
pub fn svg(table: &Table) -> String {
    let contenders = table.contenders();
    let band = contenders.len() as f64 * LANE + GAP;
    let height = TOP + band * table.rows().count() as f64 + BOTTOM;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    out += &text(LEFT, 20.0, "start", table.title());
    let colour = |column: usize| COLOURS.get(column % COLOURS.len()).copied().unwrap_or("black");
    let step = (WIDTH - RIGHT) / contenders.len().max(1) as f64;
    for (column, name) in contenders.iter().enumerate() {
        let at = RIGHT + step * column as f64;
        out += &format!("<circle cx=\"{at:.1}\" cy=\"44\" r=\"4\" fill=\"{}\"/>\n", colour(column));
        out += &text(at + 8.0, 48.0, "start", name);
    }
    for decade in DECADES {
        let ms = 10f64.powi(decade);
        out += &line((x(ms), TOP - GAP), (x(ms), height - BOTTOM), "#dddddd", 1.0);
        out += &text(x(ms), height - BOTTOM + 16.0, "middle", &scale(ms));
    }
    for (row, (name, cells, goal)) in table.rows().enumerate() {
        let top = TOP + band * row as f64;
        out += &text(LEFT - 10.0, top + band / 2.0, "end", name);
        out += &line((LEFT, top - GAP / 2.0), (WIDTH - RIGHT, top - GAP / 2.0), "#eeeeee", 1.0);
        for (column, series) in cells.iter().enumerate() {
            let (Some(median), Some(most)) = (series.median(), series.most()) else { continue };
            let y = top + LANE * (column as f64 + 0.5);
            out += &line((x(median), y), (x(most), y), colour(column), 2.0);
            let fill = if series.is_open() { "white" } else { colour(column) };
            out += &format!(
                "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{}\" \
                 stroke-width=\"2\"><title>{name}, {}: {median:.1} ms, at most {most:.1} ms</title>\
                 </circle>\n",
                x(median),
                colour(column),
                contenders.get(column).map_or("", String::as_str),
            );
            let ours = contenders.get(column).is_some_and(|name| name == OURS);
            if let (true, Some(Goal::AtMost(limit))) = (ours, goal) {
                out += &line((x(limit), top), (x(limit), top + LANE), colour(column), 3.0);
            }
        }
    }
    out + "</svg>\n"
}

fn scale(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.0} ms") } else { format!("{:.0} s", ms / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_for_each_median_and_a_ring_for_what_is_open() {
        let mut table = Table::new("outage");
        for (value, open) in [(10.0, false), (100.0, false), (1000.0, false)] {
            table.put("a < b", OURS, value, open);
        }
        table.put("a < b", "other", 5.0, true);
        table.ask("a < b", Some(Goal::AtMost(25.0)));
        let picture = svg(&table);
        let dot = |ms: f64, fill: &str| {
            format!("cx=\"{:.1}\" cy=\"{{}}\" r=\"4\" fill=\"{fill}\"", x(ms))
        };
        for (wanted, y) in [(dot(100.0, COLOURS[0]), "76.0"), (dot(5.0, "white"), "88.0")] {
            assert!(picture.contains(&wanted.replace("{}", y)), "{wanted}: {picture}");
        }
        let tick = format!("x1=\"{:.1}\" y1=\"70.0\" x2=\"{0:.1}\" y2=\"82.0\"", x(25.0));
        assert!(picture.contains(&tick), "{tick}: {picture}");
        assert!(picture.contains(">a &lt; b</text>"));
    }

    #[test]
    fn the_scale_is_logarithmic_and_has_ends() {
        let (one, ten, hundred) = (x(1.0), x(10.0), x(100.0));
        assert!((hundred - ten - (ten - one)).abs() < 1e-6);
        assert_eq!((x(0.0), x(1e9)), (LEFT, WIDTH - RIGHT));
    }
}
