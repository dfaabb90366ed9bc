//! `simulate` and `plan` with several devices behind one queue, as a user runs them.
//!
//! Figures are compared with one another: which rule serves several devices is not theirs to say.

use serde_json::Value;

use crate::simulate::{number, objects, twinstream};

const DEVICE: &str = "up=12us+6us,compute=500us+25us,down=10us+100ns";

fn text(words: &str) -> String {
    let output = twinstream(words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every device has its share, and together they computed what was answered; one alone is no fleet.
#[test]
fn each_device_has_its_share() {
    let words =
        format!("simulate --arrivals poisson:30k --duration 300ms --json --device {DEVICE}");
    for fleet in ["--devices 3", "--devices 3 --shared-link", "--device h100 --device gtx-1080ti"] {
        for found in objects(&format!("{words} --policies serial,stream {fleet}")) {
            let devices = found["devices"].as_array().unwrap();
            assert_eq!(devices.len(), 3, "{found}");
            let images: f64 = devices.iter().map(|device| number(device, "images")).sum();
            assert_eq!(images, number(&found, "completed"), "{found}");
            let batches: f64 = devices.iter().map(|device| number(device, "batches")).sum();
            assert!((images / batches / number(&found, "batch_len_mean") - 1.0).abs() < 1e-5);
            let is_share = |device: &Value| (0.0..=1.0).contains(&number(device, "busy_share"));
            assert!(devices.iter().all(is_share), "{found}");
            let bound_ms = number(&found, "bound_mean_ms");
            assert!(bound_ms > 0.0 && bound_ms <= number(&found, "mean_ms"), "{found}");
            assert!(found["bound_p99_ms"].is_null(), "the other bounds are of one device: {found}");
        }
    }
    let one = &objects(&words)[0];
    assert!(one["devices"].is_null() && number(one, "bound_mean_ms") > 0.0, "{one}");
    assert_eq!(text(&words), text(&format!("{words} --devices 1")));
    let mixed = &objects(&format!("{words} --device gtx-1080ti"))[0];
    assert_eq!(mixed["devices"][1]["device"], "gtx-1080ti");
    let [quick, slow] = [0, 1].map(|index| number(&mixed["devices"][index], "images"));
    assert!(quick > 10.0 * slow, "{mixed}");
}

/// Three carry what two cannot, however their uploads go, and behind a network each host has three.
#[test]
fn more_devices_carry_more() {
    let words = format!(
        "simulate --arrivals poisson:80k --duration 300ms --json --policies jit --device {DEVICE}"
    );
    let p99_ms = |fleet: &str| number(&objects(&format!("{words} {fleet}"))[0], "p99_ms");
    let (two, three) = (p99_ms("--devices 2"), p99_ms("--devices 3"));
    assert!(three < 0.5 * two, "{three} {two}");
    assert!(p99_ms("--devices 3 --shared-link") > three);
    let hosts = &objects(&format!("{words} --devices 3 --network delay=1ms,hosts=2"))[0];
    let shares = hosts["devices"].as_array().unwrap();
    let place = |share: &Value| (number(share, "host"), number(share, "index"));
    let places: Vec<(f64, f64)> = shares.iter().map(place).collect();
    assert_eq!(places, [(0.0, 0.0), (0.0, 1.0), (0.0, 2.0), (1.0, 0.0), (1.0, 1.0), (1.0, 2.0)]);
}

/// What a lost device had is computed by the other; where none comes back, requests are told to
/// wait.
#[test]
fn an_outage_takes_a_device_away_and_loses_nothing() {
    let words =
        format!("simulate --arrivals poisson:20k --duration 1s --policies jit --device {DEVICE}");
    let images = |outage: &str| {
        let found = objects(&format!("{words} --devices 2 --json{outage}")).remove(0);
        assert_eq!(found["completed"], found["offered"], "{found}");
        [0, 1].map(|index| number(&found["devices"][index], "images"))
    };
    let whole = images("");
    let away = images(" --outage 0,500ms");
    let back = images(" --outage 0,500ms,750ms");
    assert!((0.4..0.6).contains(&(away[0] / whole[0])), "{away:?} {whole:?}");
    assert!(away[0] < back[0] && back[0] < whole[0], "{away:?} {back:?} {whole:?}");
    let none = text(&format!("{words} --outage 0,500ms"));
    assert!(none.contains("requests wait for a device"), "{none}");
}

/// The smallest fleet serves the rate within the bound and one fewer does not, which `simulate`
/// shows as well; more devices carry more, and a spare is there to be lost.
#[test]
fn a_rate_has_a_smallest_fleet() {
    let words = format!("--device {DEVICE} --policies jit");
    let found = &objects(&format!("plan {words} --latency-bound 3ms --rate 50k --json"))[0];
    let fleets = ["one_lost", "smallest", "one_spare"].map(|fleet| &found[fleet]);
    let devices = fleets.map(|fleet| number(fleet, "devices"));
    assert_eq!((devices[0] + 1.0, devices[1] + 1.0), (devices[1], devices[2]), "{found}");
    let rates = fleets.map(|fleet| number(fleet, "rate_max_hz"));
    assert!(rates[0] < 50e3 && 50e3 <= rates[1] && rates[1] < rates[2], "{found}");
    assert!(number(fleets[1], "p99_ms") <= 3.0 && number(found, "rate_hz") == 50e3, "{found}");
    let p99_ms = |devices: f64| {
        let run = format!("simulate {words} --arrivals poisson:50k --duration 4s --json");
        number(&objects(&format!("{run} --devices {devices}"))[0], "p99_ms")
    };
    assert!((p99_ms(devices[1]) / number(fleets[1], "p99_ms") - 1.0).abs() < 0.01, "{found}");
    assert!(p99_ms(devices[0]) > 3.0);
    let plan =
        &objects(&format!("plan {words} --latency-bound 3ms --devices {} --json", devices[1]))[0];
    assert_eq!(number(plan, "rate_hz"), rates[1], "{plan} {found}");
    let one = format!("plan {words} --latency-bound 3ms");
    assert_eq!(text(&one), text(&format!("{one} --devices 1")));
}

/// Whole devices over the images at the rate: of the plan, or the one that was asked for.
#[test]
fn costs_are_those_of_whole_devices() {
    let words = format!("plan --device {DEVICE} --policies serial --latency-bound 5ms");
    let costs = "--price 3.6 --watts 500";
    let one = &objects(&format!("{words} {costs} --json"))[0];
    let rate_hz = number(one, "rate_hz");
    assert!((number(one, "cost_per_million") * rate_hz / 1e3 - 1.0).abs() < 1e-4, "{one}");
    assert!((number(one, "kwh_per_million") * rate_hz * 7.2 / 1e3 - 1.0).abs() < 1e-4, "{one}");
    let plain = &objects(&format!("{words} --json"))[0];
    assert!(plain.get("cost_per_million").is_none() && plain.get("kwh_per_million").is_none());
    let sized = &objects(&format!("{words} --rate 1k --price 3.6 --json"))[0];
    assert_eq!((number(&sized["smallest"], "devices"), &sized["one_lost"]), (1.0, &Value::Null));
    assert_eq!(number(&sized["smallest"], "cost_per_million"), 1.0);
    assert_eq!(number(&sized["one_spare"], "cost_per_million"), 2.0);
    let printed = text(&format!("{words} --rate 1k {costs}"));
    for said in ["cost/million", "kWh/million", "whole devices", "3.6 an hour and 500 W"] {
        assert!(printed.contains(said), "{said}: {printed}");
    }
    let hosts = &objects(&format!("{words} --network delay=1ms,hosts=2 --price 3.6 --json"))[0];
    let devices = number(hosts, "cost_per_million") * number(hosts, "rate_hz") / 1e3;
    assert!((devices - 2.0).abs() < 1e-4, "each of two hosts has a device: {hosts}");
}

#[test]
fn what_makes_no_fleet_is_refused_by_name() {
    let plan = "plan --device h100 --latency-bound 5ms";
    let simulate = "simulate --device h100 --arrivals poisson:5";
    for (words, culprit, remedy) in [
        (simulate, "--devices 0", "from 1 to 32"),
        (simulate, "--devices 33", "from 1 to 32"),
        (simulate, "--device h100 --devices 2", "leave --devices out"),
        (simulate, "--outage 1,5s", "last one is 0"),
        (simulate, "--outage 0", "DEVICE,FROM,UNTIL"),
        (simulate, "--outage 0,1s,2s,3s", "DEVICE,FROM,UNTIL"),
        (simulate, "--outage x,1s", "the first one is 0"),
        (simulate, "--outage 0,5", "ns, us, ms, s or min"),
        (simulate, "--outage 0,5s,5s", "later time last"),
        (simulate, "--outage 0,5s --network delay=1ms", "--network"),
        (simulate, "--outge 0,5s", "--outage"),
        (plan, "--rate 0", "requests a second"),
        (plan, "--rate 5k --devices 2", "--devices"),
        (plan, "--price $2", "plain number"),
        (plan, "--watts 0", "above zero"),
        (plan, "--rate 5k --network delay=1ms,hosts=2", "leave hosts= out"),
        (plan, "--rate 9k --network bandwidth=10Gbit", "allow more bandwidth"),
    ] {
        let output = twinstream(&format!("{words} {culprit}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{culprit}: {errors}");
        let option = culprit.split(' ').next().unwrap();
        assert!(errors.contains(option) && errors.contains(remedy), "{culprit}: {errors}");
    }
    let none = text(&format!("{plan} --rate 2M --policies stream"));
    assert!(none.contains("stream: 32 devices behind one queue do not serve this rate"), "{none}");
}
