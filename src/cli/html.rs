//! The report: one HTML file that needs no other, with every chart and table in it.

use std::fmt::Write;

use serde_json::Value;
use twinstream::sim::experiment::{Figure, Table};

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>TITLE</title>
<style>
body { font: 16px/1.5 sans-serif; color: #333; max-width: 1160px; margin: 2rem auto;
  padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1.5rem; }
svg { width: 100%; height: auto; }
nav ul { columns: 2; }
details { margin: 0.5rem 0; }
table { border-collapse: collapse; font-size: 14px; }
th, td { padding: 0.15rem 0.8rem; text-align: right; border-bottom: 1px solid #eee; }
th { border-bottom: 1px solid #999; }
</style>
</head>
<body>
"#;

/// What stands before the figures.
pub(crate) struct Preface {
    pub(crate) title: String,
    /// What was run, and how to read it.
    pub(crate) text: String,
}

/// The report on some figures with their charts.
pub(crate) fn report(figures: &[(Figure, String)], preface: &Preface) -> String {
    let (title, text) = (escape(&preface.title), escape(&preface.text));
    let mut html = HEAD.replace("TITLE", &title);
    let _ = write!(html, "<h1>{title}</h1>\n<p>{text}</p>\n<nav><ul>\n");
    for (figure, _) in figures {
        let _ = writeln!(html, "<li><a href=\"#{}\">{}</a></li>", figure.name, figure.title);
    }
    html += "</ul></nav>\n";
    for (figure, svg) in figures {
        let _ = write!(
            html,
            "<h2 id=\"{}\">{}</h2>\n<p>{}</p>\n{svg}\n",
            figure.name,
            escape(figure.title),
            escape(&figure.caption),
        );
        html += &rows(&figure.table);
    }
    html += "</body>\n</html>\n";
    html
}

/// A table; a long one is folded away.
fn rows(table: &Table) -> String {
    let mut html = String::from("<table>\n<tr>");
    for column in &table.columns {
        let _ = write!(html, "<th>{}</th>", escape(column));
    }
    html += "</tr>\n";
    for row in &table.rows {
        html += "<tr>";
        for value in row {
            let _ = write!(html, "<td>{}</td>", escape(&text(value)));
        }
        html += "</tr>\n";
    }
    html += "</table>\n";
    if table.rows.len() <= 4 {
        return html;
    }
    format!("<details><summary>Figures ({} rows)</summary>\n{html}</details>\n", table.rows.len())
}

/// A value with four significant digits.
pub(crate) fn text(value: &Value) -> String {
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
