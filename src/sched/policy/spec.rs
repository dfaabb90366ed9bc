//! Policies by name, with their parameters: read, written and described from one table.
//!
//! `NAME` or `NAME:KEY=VALUE,KEY=VALUE`; in a list, policies are separated by commas too, and what
//! looks like `KEY=VALUE` belongs to the policy before it. Only the peers have parameters: what
//! their users tune.

use std::fmt;
use std::str::FromStr;

use super::adaptive::Adaptive;
use super::aimd::AdditiveIncrease;
use super::deferred::Deferred;
use super::fixed::Fixed;
use super::jit::JustInTime;
use super::paper::Paper;
use super::serial::Serial;
use super::stream::Stream;
use super::{BatchLens, Policy};
use crate::words::{count, did_you_mean, duration_ns, duration_word};

/// Which policy, and its settings if it has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicySpec {
    /// One stream; takes everything that waits when the device is idle.
    Serial,
    /// A batch of at most `batch_len` images, or what is there after `delay_ns`.
    Fixed {
        /// Longest batch.
        batch_len: usize,
        /// Longest wait of the first image, in nanoseconds; 0: none.
        delay_ns: u64,
        /// Lengths that go at once, the longest that can be made first.
        preferred: BatchLens,
        /// Longest wait before a request is dropped, in nanoseconds; 0: none is.
        timeout_ns: u64,
        /// Whether the next batch is uploaded while one computes.
        is_eager: bool,
    },
    /// BentoML's rule.
    Adaptive {
        /// Longest batch.
        batch_len: usize,
        /// Time between two looks at the queue, in nanoseconds, at least 1.
        tick_ns: u64,
    },
    /// Clipper's rule.
    Aimd {
        /// Images that the limit grows by.
        increase: usize,
        /// Time of a batch that counts as a miss, in nanoseconds.
        bound_ns: u64,
    },
    /// Symphony's rule.
    Deferred {
        /// Longest batch.
        batch_len: usize,
        /// Deadline of requests that have none, after their arrival, in nanoseconds.
        bound_ns: u64,
        /// Whether requests that would be late even alone are dropped.
        is_dropping: bool,
    },
    /// The paper's asynchronous policy.
    Paper,
    /// Just in time, takes everything.
    Jit,
    /// Uploads on arrival, closes the batch when the compute engine is free.
    #[default]
    Stream,
}

/// A policy as it is written: its name, and what may stand behind it.
#[derive(Debug)]
pub struct PolicyWords {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a few words.
    pub meaning: &'static str,
    /// What the name alone stands for.
    pub default: PolicySpec,
    /// Its parameters.
    pub parameters: &'static [Parameter],
}

/// A parameter of a policy, written `KEY=VALUE`.
#[derive(Debug)]
pub struct Parameter {
    /// Its key.
    pub key: &'static str,
    /// What its value looks like, such as `TIME`.
    pub form: &'static str,
    /// What it sets.
    pub meaning: &'static str,
    get: fn(&PolicySpec) -> String,
    /// False where the word is no such value.
    set: fn(&mut PolicySpec, &str) -> bool,
}

impl Parameter {
    /// Its value in a policy that has it, as it is written.
    pub fn value(&self, policy: &PolicySpec) -> String {
        (self.get)(policy)
    }
}

const NO_LIMIT: &str = "max";
const NO_LENS: &str = "none";
const IMAGES: &str = "IMAGES";
const TIME: &str = "TIME";
const PREFERRED: &str = "preferred=";

/// Times are shorter than this, 31 years in nanoseconds: they are added to moments.
const TIME_END_NS: f64 = 1e18;

/// A parameter that is a field of a variant: how the field is written and read.
macro_rules! parameter {
    (
        $key:literal, $form:expr, $meaning:literal,
        $variant:ident.$field:ident: $write:expr, $read:expr
    ) => {
        Parameter {
            key: $key,
            form: $form,
            meaning: $meaning,
            get: |policy| match policy {
                PolicySpec::$variant { $field, .. } => $write(*$field),
                _ => String::new(),
            },
            set: |policy, word| match (policy, $read(word)) {
                (PolicySpec::$variant { $field, .. }, Some(value)) => {
                    *$field = value;
                    true
                }
                _ => false,
            },
        }
    };
}

const FIXED: &[Parameter] = &[
    parameter!("len", IMAGES, "longest batch", Fixed.batch_len: limit_word, limit),
    parameter!(
        "delay",
        TIME,
        "longest wait of the first image",
        Fixed.delay_ns: duration_word,
        time
    ),
    parameter!(
        "preferred",
        "A/B/…",
        "lengths that go at once, the longest first",
        Fixed.preferred: lens_word,
        lens
    ),
    parameter!(
        "timeout",
        TIME,
        "wait after which one is dropped; 0s: none",
        Fixed.timeout_ns: duration_word,
        time
    ),
];

const DEFERRED: &[Parameter] = &[
    parameter!("len", IMAGES, "longest batch", Deferred.batch_len: limit_word, limit),
    parameter!(
        "bound",
        TIME,
        "deadline of requests that have none",
        Deferred.bound_ns: duration_word,
        some_time
    ),
];

impl PolicySpec {
    /// Every policy as it is written: what can be read, and what `--help` lists.
    pub const WORDS: [PolicyWords; 10] = [
        PolicyWords {
            name: "serial",
            meaning: "takes all that wait whenever the device is idle",
            default: Self::Serial,
            parameters: &[],
        },
        PolicyWords {
            name: "fixed",
            meaning: "a full batch, or all after a delay (Triton, TorchServe)",
            default: Self::Fixed {
                batch_len: 32,
                delay_ns: 1_000_000,
                preferred: BatchLens::NONE,
                timeout_ns: 0,
                is_eager: false,
            },
            parameters: FIXED,
        },
        PolicyWords {
            name: "fixed-eager",
            meaning: "the same, uploading the next batch while one computes",
            default: Self::Fixed {
                batch_len: usize::MAX,
                delay_ns: 0,
                preferred: BatchLens::NONE,
                timeout_ns: 0,
                is_eager: true,
            },
            parameters: FIXED,
        },
        PolicyWords {
            name: "adaptive",
            meaning: "waits while waiting seems to pay (BentoML)",
            default: Self::Adaptive { batch_len: usize::MAX, tick_ns: 1_000_000 },
            parameters: &[
                parameter!("len", IMAGES, "longest batch", Adaptive.batch_len: limit_word, limit),
                parameter!(
                    "tick",
                    TIME,
                    "time between two looks at the queue",
                    Adaptive.tick_ns: duration_word,
                    some_time
                ),
            ],
        },
        PolicyWords {
            name: "aimd",
            meaning: "the longest batch grows until one misses a bound (Clipper)",
            default: Self::Aimd { increase: 2, bound_ns: 50_000_000 },
            parameters: &[
                parameter!(
                    "increase",
                    IMAGES,
                    "what a batch in time adds",
                    Aimd.increase: count_word,
                    count
                ),
                parameter!(
                    "bound",
                    TIME,
                    "longest time of a batch",
                    Aimd.bound_ns: duration_word,
                    some_time
                ),
            ],
        },
        PolicyWords {
            name: "deferred",
            meaning: "goes as late as the earliest deadline allows (Symphony)",
            default: Self::Deferred {
                batch_len: usize::MAX,
                bound_ns: 50_000_000,
                is_dropping: false,
            },
            parameters: DEFERRED,
        },
        PolicyWords {
            name: "deferred-drop",
            meaning: "the same, dropping what would be late even alone",
            default: Self::Deferred {
                batch_len: usize::MAX,
                bound_ns: 50_000_000,
                is_dropping: true,
            },
            parameters: DEFERRED,
        },
        PolicyWords {
            name: "paper",
            meaning: "the length that balances arrivals and compute (IPDPSW 2019)",
            default: Self::Paper,
            parameters: &[],
        },
        PolicyWords {
            name: "jit",
            meaning: "uploads all that wait just in time for the compute engine",
            default: Self::Jit,
            parameters: &[],
        },
        PolicyWords {
            name: "stream",
            meaning: "uploads on arrival, batches when the compute engine is free",
            default: Self::Stream,
            parameters: &[],
        },
    ];

    /// Every policy by name; the peers with customary settings.
    pub const ALL: [(&'static str, Self); Self::WORDS.len()] = {
        let mut all = [("", Self::Serial); Self::WORDS.len()];
        let mut index = 0;
        while index < all.len() {
            all[index] = (Self::WORDS[index].name, Self::WORDS[index].default);
            index += 1;
        }
        all
    };

    /// The policy at its start.
    pub fn policy(&self) -> Box<dyn Policy> {
        match *self {
            Self::Serial => Box::new(Serial),
            Self::Fixed { batch_len, delay_ns, preferred, timeout_ns, is_eager } => {
                let batch_len = batch_len.max(1);
                Box::new(Fixed { batch_len, delay_ns, preferred, timeout_ns, is_eager })
            }
            Self::Adaptive { batch_len, tick_ns } => {
                Box::new(Adaptive::new(batch_len.max(1), tick_ns.max(1)))
            }
            Self::Aimd { increase, bound_ns } => {
                Box::new(AdditiveIncrease::new(increase, bound_ns))
            }
            Self::Deferred { batch_len, bound_ns, is_dropping } => {
                Box::new(Deferred { batch_len: batch_len.max(1), bound_ns, is_dropping })
            }
            Self::Paper => Box::new(Paper),
            Self::Jit => Box::new(JustInTime),
            Self::Stream => Box::new(Stream),
        }
    }

    /// Whether it may drop requests that have no deadline.
    pub fn is_dropping(&self) -> bool {
        match *self {
            Self::Fixed { timeout_ns, .. } => timeout_ns > 0,
            Self::Deferred { is_dropping, .. } => is_dropping,
            _ => false,
        }
    }

    /// Name of the policy without its settings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Fixed { is_eager: false, .. } => "fixed",
            Self::Fixed { is_eager: true, .. } => "fixed-eager",
            Self::Adaptive { .. } => "adaptive",
            Self::Aimd { .. } => "aimd",
            Self::Deferred { is_dropping: false, .. } => "deferred",
            Self::Deferred { is_dropping: true, .. } => "deferred-drop",
            Self::Paper => "paper",
            Self::Jit => "jit",
            Self::Stream => "stream",
        }
    }

    /// Reads a list such as `serial,fixed:len=64,delay=200us,stream`.
    ///
    /// # Errors
    /// Those of the policy that cannot be read.
    pub fn list(spec: &str) -> Result<Vec<Self>, PolicyError> {
        let mut policies: Vec<String> = Vec::new();
        for item in spec.split(',') {
            if item.trim().is_empty() {
                return Err(PolicyError(format!(
                    "`{spec}`: a policy or parameter is empty; write one between commas, or \
                     remove the comma"
                )));
            }
            if let Some(policy) = policies.last_mut()
                && policy.contains(PREFERRED)
                && count(item).is_some()
            {
                *policy += &format!(",{item}");
                continue;
            }
            let is_setting = item.split(':').next().is_some_and(|before| before.contains('='));
            match policies.last_mut() {
                Some(policy) if is_setting && !policy.contains(':') => {
                    let item = item.trim();
                    return Err(PolicyError(format!(
                        "`{policy},{item}`: parameters follow a colon; write `{policy}:{item}`"
                    )));
                }
                Some(policy) if is_setting => *policy += &format!(",{item}"),
                _ => policies.push(item.to_owned()),
            }
        }
        policies.iter().map(|policy| policy.parse()).collect()
    }

    fn words(name: &str) -> Option<&'static PolicyWords> {
        const WORDS: &[PolicyWords] = &PolicySpec::WORDS;
        WORDS.iter().find(|words| words.name == name)
    }
}

/// As it is read: the name, and the parameters that are not as the name alone has them.
impl fmt::Display for PolicySpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())?;
        let words = Self::words(self.name()).expect("every policy has a name");
        let own = words.parameters.iter().filter_map(|parameter| {
            let value = parameter.value(self);
            (value != parameter.value(&words.default)).then(|| format!("{}={value}", parameter.key))
        });
        for (index, setting) in own.enumerate() {
            write!(formatter, "{}{setting}", if index == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

/// Words that are no policy: what is wrong with them, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl FromStr for PolicySpec {
    type Err = PolicyError;

    fn from_str(spec: &str) -> Result<Self, PolicyError> {
        let (name, settings) = match spec.trim().split_once(':') {
            Some((name, settings)) => (name, Some(settings)),
            None => (spec.trim(), None),
        };
        let names = Self::ALL.map(|(name, _)| name);
        let found = Self::words(name).ok_or_else(|| {
            let guess = did_you_mean(name, names);
            PolicyError(format!(
                "no policy is called `{name}`; policies are {}{guess}",
                names.join(", ")
            ))
        })?;
        if let Some(lens) = settings.and_then(apart) {
            return Err(PolicyError(format!("`{spec}`: lengths stand in one word; write {lens}")));
        }
        if settings.is_some_and(|settings| settings.split(',').any(|word| word.trim().is_empty())) {
            let keys = found.keys();
            return Err(PolicyError(match keys.is_empty() {
                true => format!("`{spec}`: nothing follows the colon; write {name} alone"),
                false => format!(
                    "`{spec}`: a parameter of {name} is empty; it has {keys}, written KEY=VALUE"
                ),
            }));
        }
        let mut policy = found.default;
        let mut seen = Vec::new();
        for setting in settings.into_iter().flat_map(|settings| settings.split(',')) {
            let parameter = found.read(&mut policy, setting.trim())?;
            if seen.contains(&parameter.key) {
                return Err(PolicyError(format!("`{spec}`: {} is given twice", parameter.key)));
            }
            seen.push(parameter.key);
        }
        match policy {
            Self::Fixed { batch_len, preferred, .. }
                if preferred.iter().any(|len| len > batch_len) =>
            {
                Err(PolicyError(format!(
                    "`{spec}`: a preferred length is above the longest batch, len={batch_len}"
                )))
            }
            _ => Ok(policy),
        }
    }
}

impl PolicyWords {
    /// The keys of its parameters, as a list.
    fn keys(&self) -> String {
        self.parameters.iter().map(|parameter| parameter.key).collect::<Vec<_>>().join(", ")
    }

    /// Reads `KEY=VALUE` into a policy of this name.
    fn read(&self, policy: &mut PolicySpec, setting: &str) -> Result<&Parameter, PolicyError> {
        let name = self.name;
        if self.parameters.is_empty() {
            return Err(PolicyError(format!("`{name}:{setting}`: {name} has no parameters")));
        }
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        let Some(parameter) = self.parameters.iter().find(|parameter| parameter.key == key) else {
            let guess = did_you_mean(key, self.parameters.iter().map(|parameter| parameter.key));
            let keys = self.keys();
            return Err(PolicyError(format!(
                "`{setting}`: {name} has no such parameter; it has {keys}{guess}"
            )));
        };
        if (parameter.set)(policy, value) {
            return Ok(parameter);
        }
        let Parameter { key, form, .. } = parameter;
        if *form == TIME && duration_ns(value).is_some() {
            return Err(PolicyError(format!(
                "`{setting}`: {key} {}",
                if time(value).is_some() { "has to be above 0" } else { "has to be below 1e9s" }
            )));
        }
        Err(PolicyError(format!("`{setting}`: not a value of {key}; write {}", expected(form))))
    }
}

/// What a value of a form looks like.
fn expected(form: &str) -> String {
    match form {
        IMAGES => format!("a whole number from 1 to {}", usize::MAX),
        TIME => "a time with its unit, such as 200us".to_owned(),
        _ => "at most 16 lengths from 1 to 65535, such as 4/8/16".to_owned(),
    }
}

/// Preferred lengths that commas separate, written as one word; none if they are not.
fn apart(settings: &str) -> Option<String> {
    let words: Vec<&str> = settings.split(',').map(str::trim).collect();
    let first = words.iter().position(|word| word.starts_with(PREFERRED))?;
    let len = words[first + 1..].iter().take_while(|word| count(word).is_some()).count();
    (len > 0).then(|| words[first..=first + len].join("/"))
}

fn limit(word: &str) -> Option<usize> {
    if word == NO_LIMIT { Some(usize::MAX) } else { count(word) }
}

fn limit_word(batch_len: usize) -> String {
    if batch_len == usize::MAX { NO_LIMIT.to_owned() } else { batch_len.to_string() }
}

fn count_word(count: usize) -> String {
    count.to_string()
}

fn time(word: &str) -> Option<u64> {
    duration_ns(word).filter(|ns| *ns < TIME_END_NS).map(|ns| ns.round() as u64)
}

/// A time above zero.
fn some_time(word: &str) -> Option<u64> {
    time(word).filter(|ns| *ns > 0)
}

fn lens(word: &str) -> Option<BatchLens> {
    if word == NO_LENS {
        return Some(BatchLens::NONE);
    }
    BatchLens::new(&word.split('/').map(count).collect::<Option<Vec<_>>>()?)
}

fn lens_word(lens: BatchLens) -> String {
    let lens: Vec<String> = lens.iter().map(|len| len.to_string()).collect();
    if lens.is_empty() { NO_LENS.to_owned() } else { lens.join("/") }
}

#[cfg(test)]
mod tests;
