//! Policies by name: what is read, written back and refused, alone and in lists.

use super::*;

#[test]
fn names_are_read_back_and_others_refused() {
    for (name, policy) in PolicySpec::ALL {
        assert_eq!(name.parse(), Ok(policy));
        assert_eq!(policy.name(), name);
        assert_eq!(policy.to_string(), name);
    }
    let error = "strem".parse::<PolicySpec>().unwrap_err().to_string();
    assert!(error.contains("`strem`; policies are"), "{error}");
    assert!(error.contains("stream; did you mean `stream`?"), "{error}");
}

#[test]
fn parameters_are_read_and_written() {
    for (words, written) in [
        ("fixed:len=64,delay=200us", "fixed:len=64,delay=200us"),
        ("fixed:delay=0.2ms, len=64", "fixed:len=64,delay=200us"),
        ("fixed:len=32,delay=1ms,preferred=none", "fixed"),
        ("fixed:preferred=16/4/8", "fixed:preferred=4/8/16"),
        ("fixed:len=max", "fixed:len=max"),
        ("fixed-eager:delay=0s,len=8", "fixed-eager:len=8"),
        ("adaptive:tick=50us,len=100", "adaptive:len=100,tick=50us"),
        ("aimd:increase=4,bound=20ms", "aimd:increase=4,bound=20ms"),
        ("fixed:timeout=30ms,len=8", "fixed:len=8,timeout=30ms"),
        ("fixed:timeout=0s", "fixed"),
        ("deferred:bound=20ms", "deferred:bound=20ms"),
        ("deferred-drop:bound=0.05s,len=16", "deferred-drop:len=16"),
    ] {
        let policy: PolicySpec = words.parse().unwrap();
        assert_eq!(policy.to_string(), written);
        assert_eq!(written.parse(), Ok(policy));
    }
    let preferred = BatchLens::new(&[4, 8]).unwrap();
    let fixed = PolicySpec::Fixed {
        batch_len: 9,
        delay_ns: 7_000,
        preferred,
        timeout_ns: 5_000_000,
        is_eager: false,
    };
    assert_eq!("fixed:len=9,preferred=8/4,delay=7us,timeout=5ms".parse(), Ok(fixed));
}

#[test]
fn wrong_words_are_named_with_the_remedy() {
    for (words, culprit, remedy) in [
        ("fixed:lem=64", "`lem=64`", "did you mean `len`?"),
        ("fixed:len=0", "`len=0`", "whole number from 1"),
        ("fixed:len", "`len`", "whole number from 1"),
        ("fixed:", "`fixed:`", "it has len, delay, preferred, timeout"),
        ("deferred:bound=0s", "`bound=0s`", "bound has to be above 0"),
        ("defer", "`defer`", "did you mean `deferred`?"),
        ("fixed:len=4,,delay=1ms", "`fixed:len=4,,delay=1ms`", "is empty"),
        ("jit:", "`jit:`", "write jit alone"),
        ("", "``", "policies are serial"),
        ("fixed:delay=99999999999s", "`delay=99999999999s`", "below 1e9s"),
        ("fixed:len=99999999999999999999", "`len=99999999999999999999`", "from 1 to 184467"),
        ("fixed:preferred=4,8,16,len=32", "lengths", "write preferred=4/8/16"),
        ("aimd:bound=0s", "`bound=0s`", "bound has to be above 0"),
        ("fixed:delay=200", "`delay=200`", "200us"),
        ("fixed:len=4,len=5", "len", "given twice"),
        ("fixed:len=4,preferred=8", "preferred", "len=4"),
        ("fixed:preferred=4+8", "`preferred=4+8`", "4/8/16"),
        ("adaptive:tick=0us", "`tick=0us`", "tick has to be above 0"),
        ("adaptive:tick=0", "`tick=0`", "200us"),
        ("jit:len=4", "`jit:len=4`", "no parameters"),
        ("triton:len=4", "`triton`", "fixed"),
    ] {
        let error = words.parse::<PolicySpec>().unwrap_err().to_string();
        assert!(error.contains(culprit) && error.contains(remedy), "{words}: {error}");
    }
}

#[test]
fn in_a_list_settings_belong_to_the_policy_before_them() {
    let list = PolicySpec::list("serial,fixed:len=64,delay=200us, stream,aimd:bound=5ms");
    let written: Vec<String> = list.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(written, ["serial", "fixed:len=64,delay=200us", "stream", "aimd:bound=5ms"]);
    for (words, remedy) in [
        ("serial,fixed,len=64", "`fixed:len=64`"),
        ("len=64", "no policy is called `len=64`"),
        ("serial,,jit", "`serial,,jit`: a policy or parameter is empty"),
        ("serial,fixed:preferred=4,8,16,jit", "write preferred=4/8/16"),
        ("fixed:len=4,tick=3ms", "it has len, delay, preferred, timeout"),
    ] {
        let error = PolicySpec::list(words).unwrap_err().to_string();
        assert!(error.contains(remedy), "{words}: {error}");
    }
}
