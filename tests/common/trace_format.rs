//! A reader of Chrome's trace event format that takes nothing for granted.

use std::collections::BTreeMap;

use serde_json::Value;

/// A slice: start and end in nanoseconds, and its arguments.
pub type Slice = (u64, u64, Value);

/// What a trace shows of one process.
#[derive(Debug, Default)]
pub struct Process {
    pub name: String,
    /// By row.
    pub slices: BTreeMap<String, Vec<Slice>>,
    /// By row: moments in nanoseconds, names, arguments.
    pub instants: BTreeMap<String, Vec<(u64, String, Value)>>,
    /// By counter: moments in nanoseconds and values.
    pub counters: BTreeMap<String, Vec<(u64, f64)>>,
}

/// The processes of a trace, in the order of their numbers.
///
/// # Panics
/// Where the text is not as the format demands, an event stands before an earlier one of its
/// process, or slices of a row overlap.
pub fn read(json: &str) -> Vec<Process> {
    let trace: Value = serde_json::from_str(json).unwrap();
    assert!(["ms", "ns"].contains(&trace["displayTimeUnit"].as_str().unwrap()));
    let mut processes: BTreeMap<u64, Process> = BTreeMap::new();
    let mut rows: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut latest_ns: BTreeMap<u64, u64> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap() {
        let text = |key: &str| event[key].as_str().unwrap_or_else(|| panic!("{key}: {event}"));
        let whole = |key: &str| event[key].as_u64().unwrap_or_else(|| panic!("{key}: {event}"));
        let (name, pid, tid, args) = (text("name"), whole("pid"), whole("tid"), &event["args"]);
        assert!(args.is_object(), "{event}");
        let process = processes.entry(pid).or_default();
        if text("ph") == "M" {
            match name {
                "process_name" => process.name = args["name"].as_str().unwrap().to_owned(),
                "thread_name" => {
                    assert_ne!(pid, tid, "{event} names what viewers call the main thread");
                    rows.insert((pid, tid), args["name"].as_str().unwrap().to_owned());
                }
                "thread_sort_index" => assert!(args["sort_index"].is_u64(), "{event}"),
                _ => panic!("{event}"),
            }
            continue;
        }
        let ns = |key: &str| {
            let us = event[key].as_f64().unwrap_or_else(|| panic!("{key}: {event}"));
            assert!(us >= 0.0, "{event}");
            (us * 1e3).round() as u64
        };
        let at_ns = ns("ts");
        let latest_ns = latest_ns.entry(pid).or_default();
        assert!(*latest_ns <= at_ns, "{event} stands after {latest_ns} ns");
        *latest_ns = at_ns;
        if text("ph") == "C" {
            let values: Vec<f64> =
                args.as_object().unwrap().values().map(|value| value.as_f64().unwrap()).collect();
            assert_eq!(values.len(), 1, "{event}");
            process.counters.entry(name.to_owned()).or_default().push((at_ns, values[0]));
            continue;
        }
        let row = rows.get(&(pid, tid)).unwrap_or_else(|| panic!("no row: {event}")).clone();
        match text("ph") {
            "X" => {
                let slices = process.slices.entry(row).or_default();
                let free_ns = slices.last().map_or(0, |(_, end_ns, _)| *end_ns);
                assert!(free_ns <= at_ns, "{event} begins before {free_ns} ns");
                slices.push((at_ns, at_ns + ns("dur"), args.clone()));
            }
            "i" => {
                assert!(["g", "p", "t"].contains(&text("s")), "{event}");
                let instants = process.instants.entry(row).or_default();
                instants.push((at_ns, name.to_owned(), args.clone()));
            }
            _ => panic!("{event}"),
        }
    }
    processes.into_values().collect()
}
