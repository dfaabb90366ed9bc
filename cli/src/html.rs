//! The report: one HTML file that needs no other, with every chart and table in it.
//!
//! It reads on a phone and in dark mode: panels stand below each other where there is no room
//! beside, and a wide table scrolls within itself.

use std::fmt::Write;

use serde_json::Value;
use twinstream::sim::experiment::{Figure, Table};

use crate::charts::{self, escape};

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>TITLE</title>
<style>
:root { --ink: #333; --paper: #fff; --rule: #ccc; --faint: #666; --link: #0645ad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --paper: #16181c; --rule: #454a52; --faint: #a8adb5; --link: #8ab4f8; }
}
CHARTS
body { font: 16px/1.5 sans-serif; color: var(--ink); background: var(--paper); max-width: 1160px;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
a { color: var(--link); }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 3rem; border-top: 1px solid var(--rule); padding-top: 1.5rem; }
nav ul { columns: 18rem 2; padding-left: 1.2rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.setting { color: var(--faint); margin-top: -0.5rem; }
.missing { border-left: 4px solid #d55e00; padding-left: 0.8rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1.2rem; list-style: none; padding: 0;
  font-size: 14px; }
.legend svg { vertical-align: middle; margin-right: 0.4rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
.panels svg { width: 100%; height: auto; max-width: 600px; }
.table { overflow-x: auto; }
details { margin: 0.5rem 0; }
summary { cursor: pointer; }
table { border-collapse: collapse; font-size: 14px; }
th, td { padding: 0.15rem 0.8rem; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
</style>
</head>
<body>
"#;

/// A table of more rows is folded away.
const OPEN_ROW_LEN_MAX: usize = 4;

/// What stands before the figures.
pub(crate) struct Preface {
    pub(crate) title: String,
    /// How to read it.
    pub(crate) text: String,
    /// How it came to be: what, and the words for it.
    pub(crate) facts: Vec<(&'static str, String)>,
}

/// A figure as a section of the report.
pub(crate) struct Section {
    name: &'static str,
    title: &'static str,
    html: String,
}

impl Section {
    pub(crate) fn new(figure: &Figure) -> anyhow::Result<Self> {
        let mut html = format!(
            "<section>\n<h2 id=\"{}\">{}</h2>\n<p class=\"setting\">{}</p>\n<p>{}</p>\n",
            figure.name,
            escape(figure.title),
            escape(&figure.setting),
            escape(&figure.caption),
        );
        html += "<ul class=\"legend\">\n";
        for entry in charts::legend(figure) {
            let _ = writeln!(html, "<li>{}{}</li>", charts::swatch(&entry)?, escape(entry.name));
        }
        html += "</ul>\n<div class=\"panels\">\n";
        charts::panels(figure)?.iter().for_each(|svg| html += svg);
        html += "</div>\n";
        html += &rows(&figure.table);
        html += "</section>\n";
        Ok(Self { name: figure.name, title: figure.title, html })
    }
}

/// The report on what is finished, and the names of what is not.
pub(crate) fn report(sections: &[Section], missing: &[&str], preface: &Preface) -> String {
    let (title, text) = (escape(&preface.title), escape(&preface.text));
    let mut html = HEAD.replace("TITLE", &title).replace("CHARTS", &charts::dark_style());
    let _ = write!(html, "<h1>{title}</h1>\n<p>{text}</p>\n<dl>\n");
    for (what, words) in &preface.facts {
        let _ = writeln!(html, "<dt>{what}</dt><dd>{}</dd>", escape(words));
    }
    html += "</dl>\n";
    if !missing.is_empty() {
        let names = missing.join(", ");
        let _ = writeln!(
            html,
            "<p class=\"missing\"><strong>Incomplete.</strong> Not finished yet: {names}.</p>"
        );
    }
    html += "<nav><ul>\n";
    for section in sections {
        let title = escape(section.title);
        let _ = writeln!(html, "<li><a href=\"#{}\">{title}</a></li>", section.name);
    }
    html += "</ul></nav>\n";
    sections.iter().for_each(|section| html += &section.html);
    html += "</body>\n</html>\n";
    html
}

/// A table; a long one is folded away.
fn rows(table: &Table) -> String {
    let mut html = String::from("<div class=\"table\" tabindex=\"0\"><table>\n<thead><tr>");
    for column in &table.columns {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(&heading(column)));
    }
    html += "</tr></thead>\n";
    for row in &table.rows {
        html += "<tr>";
        for value in row {
            let _ = write!(html, "<td>{}</td>", escape(&text(value)));
        }
        html += "</tr>\n";
    }
    html += "</table></div>\n";
    if table.rows.len() <= OPEN_ROW_LEN_MAX {
        return html;
    }
    format!("<details><summary>Figures ({} rows)</summary>\n{html}</details>\n", table.rows.len())
}

/// A column's name in words, its unit in brackets.
fn heading(column: &str) -> String {
    const UNITS: [(&str, &str); 3] = [("_ms", " (ms)"), ("_hz", " (1/s)"), ("_percent", " (%)")];
    let unit = UNITS.iter().find_map(|(end, unit)| Some((column.strip_suffix(end)?, *unit)));
    let (words, unit) = unit.unwrap_or((column, ""));
    format!("{}{unit}", words.replace('_', " "))
}

/// A value with four significant digits.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_string(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let magnitude = number.abs().max(1e-9).log10().floor() as i32;
            format!("{number:.*}", (3 - magnitude).clamp(0, 3) as usize)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_words_for_headings() {
        assert_eq!(heading("simulated_peak_change_percent"), "simulated peak change (%)");
        assert_eq!(heading("rate_hz"), "rate (1/s)");
        assert_eq!(heading("policy"), "policy");
    }
}
