//! One line of the result: a value, its floor or peer of the same run, a target, and whether it is met.

use serde_json::{Value, json};

/// A line.
pub(crate) struct Figure {
    name: String,
    /// `None` where it could not be measured here.
    value: Option<f64>,
    unit: &'static str,
    reference: Option<(String, f64)>,
    target: Option<Target>,
    /// What stands in the way of a missed target, or why nothing was measured.
    why: Option<String>,
}

enum Target {
    AtMost(f64),
    /// Of the reference.
    RatioAtLeast(f64),
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value: Some(value), unit, reference: None, target: None, why: None }
    }

    pub(crate) fn not_measured(name: impl Into<String>, unit: &'static str, why: impl Into<String>) -> Self {
        Self { name: name.into(), value: None, unit, reference: None, target: None, why: Some(why.into()) }
    }

    /// Beside a floor or a peer.
    pub(crate) fn beside(mut self, name: impl Into<String>, value: f64) -> Self {
        self.reference = Some((name.into(), value));
        self
    }

    pub(crate) fn at_most(mut self, most: f64) -> Self {
        self.target = Some(Target::AtMost(most));
        self
    }

    pub(crate) fn ratio_at_least(mut self, least: f64) -> Self {
        self.target = Some(Target::RatioAtLeast(least));
        self
    }

    /// What stands in the way, where the target is missed.
    pub(crate) fn else_because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.value? / self.reference.as_ref()?.1)
    }

    /// Whether it meets its target; `None` where it has none or was not measured.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.target.as_ref()? {
            Target::AtMost(most) => Some(self.value? <= *most),
            Target::RatioAtLeast(least) => Some(self.ratio()? >= *least),
        }
    }

    fn target(&self) -> String {
        match &self.target {
            None => String::new(),
            Some(Target::AtMost(most)) => format!("≤ {} {}", short(*most), self.unit),
            Some(Target::RatioAtLeast(least)) => format!("≥ {} × reference", short(*least)),
        }
    }

    fn cells(&self) -> [String; 6] {
        let verdict = match (self.met(), self.value) {
            (Some(true), _) => "met",
            (Some(false), _) => "MISSED",
            (None, None) => "not measured",
            (None, Some(_)) => "",
        };
        let value = self.value.map_or_else(|| "-".to_owned(), |value| format!("{} {}", short(value), self.unit));
        let reference = self
            .reference
            .as_ref()
            .map_or_else(String::new, |(name, value)| format!("{} {}  {name}", short(*value), self.unit));
        let ratio = self.ratio().map_or_else(String::new, short);
        [self.name.clone(), value, ratio, self.target(), verdict.to_owned(), reference]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "reference_name": self.reference.as_ref().map(|(name, _)| name),
            "reference_value": self.reference.as_ref().map(|(_, value)| value),
            "ratio": self.ratio(),
            "target": self.target(),
            "met": self.met(),
        })
    }
}

/// The table, and below it a sentence for each target that is missed.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = ["what", "value", "ratio", "target", "", "reference"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(figures.iter().map(Figure::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    for figure in figures {
        let why = figure.why.as_deref().unwrap_or("not looked into yet");
        match (figure.met(), figure.value) {
            (Some(false), _) => text.push_str(&format!("\n{}: missed. {why}", figure.name)),
            (None, None) => text.push_str(&format!("\n{}: not measured. {why}", figure.name)),
            _ => {}
        }
    }
    text
}

/// The same for programs: a list of objects.
pub(crate) fn summary(figures: &[Figure]) -> Value {
    figures.iter().map(Figure::json).collect()
}

/// Three digits.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        some if some >= 10.0 => 1,
        few if few >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_judged_by_what_was_measured() {
        let figure = |value| Figure::new("x", value, "ms");
        assert_eq!(figure(5.0).met(), None);
        assert_eq!((figure(5.0).at_most(5.0).met(), figure(5.1).at_most(5.0).met()), (Some(true), Some(false)));
        let half = || figure(5.0).beside("peer", 10.0);
        assert_eq!((half().ratio_at_least(0.5).met(), half().ratio_at_least(0.6).met()), (Some(true), Some(false)));
        assert_eq!(figure(5.0).ratio_at_least(0.5).met(), None, "without its reference there is no verdict");
        assert_eq!(Figure::not_measured("x", "ms", "because").at_most(5.0).met(), None);
    }

    #[test]
    fn a_missed_target_says_why() {
        let figures = [Figure::new("slow", 9.0, "ms").at_most(5.0).else_because("It waits.")];
        let text = table(&figures);
        assert!(text.contains("MISSED") && text.ends_with("slow: missed. It waits."), "{text}");
        assert_eq!(summary(&figures)[0]["met"], false);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([4_569.6, 12.34, 1.0, 0.0456].map(short), ["4570", "12.3", "1", "0.046"]);
    }
}
