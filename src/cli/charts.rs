//! Figures as SVG: panels in a grid under one legend.
//!
//! A series has the same colour in every chart. Knows nothing of what the figures mean.

use std::ops::Range;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use twinstream::sim::experiment::{Axis, Figure, Panel, Series, Style};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const PANEL_WIDTH: u32 = 560;
const PANEL_HEIGHT: u32 = 270;
const LEGEND_HEIGHT: u32 = 34;
const FONT: &str = "sans-serif";
const TITLE_SIZE: i32 = 15;
const LABEL_SIZE: i32 = 12;

const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xe6, 0xe6, 0xe6);
const REFERENCE: RGBColor = RGBColor(0x55, 0x55, 0x55);

/// Colours that most colour-blind readers can tell apart (after Okabe and Ito), by policy.
const COLOURS: [(&str, RGBColor); 8] = [
    ("stream", RGBColor(0x00, 0x72, 0xb2)),
    ("jit", RGBColor(0x00, 0x9e, 0x73)),
    ("serial", RGBColor(0xd5, 0x5e, 0x00)),
    ("paper", RGBColor(0xcc, 0x79, 0xa7)),
    ("fixed", RGBColor(0xe6, 0x9f, 0x00)),
    ("fixed-eager", RGBColor(0x8c, 0x56, 0x4b)),
    ("adaptive", RGBColor(0x56, 0xb4, 0xe9)),
    ("aimd", RGBColor(0x7f, 0x7f, 0x7f)),
];

/// Draws a figure.
pub(crate) fn svg(figure: &Figure) -> anyhow::Result<String> {
    let legend = legend(figure);
    let row_len = figure.panels.len().div_ceil(figure.column_len) as u32;
    let width = PANEL_WIDTH * (figure.column_len as u32).max(2);
    let size = (width, LEGEND_HEIGHT + row_len * PANEL_HEIGHT);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&root, figure, &legend).map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    Ok(text)
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw(root: &Area<'_>, figure: &Figure, legend: &[(&str, Style, RGBColor)]) -> Drawn {
    root.fill(&WHITE)?;
    let (strip, rest) = root.split_vertically(LEGEND_HEIGHT);
    draw_legend(&strip, legend)?;
    let row_len = figure.panels.len().div_ceil(figure.column_len);
    let areas = rest.split_evenly((row_len, figure.column_len));
    for (panel, area) in figure.panels.iter().zip(&areas) {
        let (x, y) = (span(&panel.x), span(&panel.y));
        match (panel.x.is_log, panel.y.is_log) {
            (false, false) => draw_panel(area, panel, legend, x, y)?,
            (false, true) => draw_panel(area, panel, legend, x, y.log_scale())?,
            (true, false) => draw_panel(area, panel, legend, x.log_scale(), y)?,
            (true, true) => draw_panel(area, panel, legend, x.log_scale(), y.log_scale())?,
        }
    }
    root.present()
}

fn span(axis: &Axis) -> Range<f64> {
    axis.range.0..axis.range.1
}

/// Each series once, in order of appearance, with its colour.
fn legend(figure: &Figure) -> Vec<(&str, Style, RGBColor)> {
    let mut entries: Vec<(&str, Style, RGBColor)> = Vec::new();
    for series in figure.panels.iter().flat_map(|panel| &panel.series) {
        if entries.iter().any(|(name, ..)| *name == series.name) {
            continue;
        }
        // `stream, simulated` stands for the same policy as `stream`.
        let (policy, remark) = series.name.split_once(", ").unwrap_or((&series.name, ""));
        let known = COLOURS.iter().find(|(name, _)| *name == policy);
        let colour = match (known, series.style) {
            (Some((_, colour)), style) if remark.is_empty() || style == Style::Dashed => *colour,
            (_, Style::Dashed) | (Some(_), _) => REFERENCE,
            (None, _) => COLOURS[entries.len() % COLOURS.len()].1,
        };
        entries.push((&series.name, series.style, colour));
    }
    entries
}

fn draw_legend(strip: &Area<'_>, legend: &[(&str, Style, RGBColor)]) -> Drawn {
    let mut left = 60;
    for (name, style, colour) in legend {
        let stroke = colour.stroke_width(2);
        let middle = LEGEND_HEIGHT as i32 / 2;
        let ends = [(left, middle), (left + 26, middle)];
        match style {
            Style::Dashed => strip.draw(&DashedPathElement::new(ends, 5, 4, stroke))?,
            Style::Dots => {
                strip.draw(&Circle::new((left + 13, middle), 3, colour.filled()))?;
            }
            Style::Marked | Style::Line => {
                strip.draw(&PathElement::new(ends, stroke))?;
                if *style == Style::Marked {
                    strip.draw(&Circle::new((left + 13, middle), 3, colour.filled()))?;
                }
            }
        }
        let font = (FONT, LABEL_SIZE + 1).into_font().color(&INK);
        strip.draw(&Text::new((*name).to_string(), (left + 33, middle - 6), font))?;
        // Characters of this size are some 7 pixels wide.
        left += 33 + 7 * name.chars().count() as i32 + 22;
    }
    Ok(())
}

fn draw_panel<X, Y>(
    area: &Area<'_>,
    panel: &Panel,
    legend: &[(&str, Style, RGBColor)],
    x: X,
    y: Y,
) -> Drawn
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, TITLE_SIZE).into_font().color(&INK))
        .margin(8)
        .margin_right(20)
        .x_label_area_size(38)
        .y_label_area_size(58)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(panel.x.label)
        .y_desc(panel.y.label)
        .x_labels(8)
        .y_labels(if panel.y.is_log { 16 } else { 6 })
        .max_light_lines(0)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_label_formatter(&|value| label(*value, panel.x.is_log))
        .y_label_formatter(&|value| label(*value, panel.y.is_log))
        .label_style((FONT, LABEL_SIZE).into_font().color(&INK))
        .axis_desc_style((FONT, LABEL_SIZE).into_font().color(&INK))
        .draw()?;
    for series in &panel.series {
        let colour = legend
            .iter()
            .find(|(name, ..)| *name == series.name)
            .map_or(REFERENCE, |(_, _, colour)| *colour);
        let stroke = colour.stroke_width(2);
        for points in runs_within(series, panel) {
            match series.style {
                Style::Dashed => {
                    let line = DashedLineSeries::new(points, 5, 4, stroke);
                    chart.draw_series(line)?;
                }
                Style::Line => {
                    chart.draw_series(LineSeries::new(points, stroke))?;
                }
                Style::Marked => {
                    chart.draw_series(LineSeries::new(points.iter().copied(), stroke))?;
                    let dot = |point: &(f64, f64)| Circle::new(*point, 3, colour.filled());
                    chart.draw_series(points.iter().map(dot))?;
                }
                Style::Dots => {
                    let dot = |point: &(f64, f64)| Circle::new(*point, 2, colour.mix(0.6).filled());
                    chart.draw_series(points.iter().map(dot))?;
                }
            }
        }
    }
    Ok(())
}

/// The stretches of a series that lie within its panel; lines end where they leave it.
fn runs_within(series: &Series, panel: &Panel) -> Vec<Vec<(f64, f64)>> {
    let (low, high) = panel.y.range;
    let mut runs = vec![Vec::new()];
    for (index, &(x, y)) in series.points.iter().enumerate() {
        let is_inside = |value: f64| (low..=high).contains(&value);
        if is_inside(y) {
            if let Some(&before) = index.checked_sub(1).and_then(|at| series.points.get(at))
                && !is_inside(before.1)
                && series.style != Style::Dots
            {
                runs.push(vec![crossing(before, (x, y), panel)]);
            }
            if let Some(run) = runs.last_mut() {
                run.push((x, y));
            }
        } else if let Some(&before) = index.checked_sub(1).and_then(|at| series.points.get(at))
            && is_inside(before.1)
            && series.style != Style::Dots
            && let Some(run) = runs.last_mut()
        {
            run.push(crossing((x, y), before, panel));
        }
    }
    runs
}

/// Where the line from a point outside to one inside meets the panel's edge.
fn crossing(outside: (f64, f64), inside: (f64, f64), panel: &Panel) -> (f64, f64) {
    let scaled = |value: f64, axis: &Axis| if axis.is_log { value.ln() } else { value };
    let (low, high) = panel.y.range;
    let edge = if outside.1 > high { high } else { low };
    let y = |value| scaled(value, &panel.y);
    let share = (y(edge) - y(inside.1)) / (y(outside.1) - y(inside.1));
    let (from, to) = (scaled(inside.0, &panel.x), scaled(outside.0, &panel.x));
    let x = from + share * (to - from);
    (if panel.x.is_log { x.exp() } else { x }, edge)
}

/// A tick's number, without digits that say nothing; of a logarithmic axis only 1, 2 and 5.
fn label(value: f64, is_log: bool) -> String {
    let leading = value / 10_f64.powf(value.abs().log10().floor());
    if is_log && ![1.0, 2.0, 5.0].iter().any(|digit| (leading - digit).abs() < 1e-6) {
        return String::new();
    }
    let decimals = if value.abs() < 0.01 { 5 } else { 2 };
    let text = format!("{value:.decimals$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_string() } else { text.to_string() }
}
