//! `twinstream prove`: hold kernels that need a proof against the safe ones on a GPU, and store
//! what they have shown.
//!
//! Invariant: kernels are tried by other processes, a family at a time; whatever becomes of these
//! is a verdict on the kernel that they were at, and the next process goes on behind it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use twinstream::backend::cuda::{
    Case, CudaOptions, ProveOptions, Verdict, Verdicts, cases, prove, verdicts_path,
};
use twinstream::model::Model;

use crate::classify::write_line;
use crate::computer::GpuOptions;
use crate::options::{ModelOptions, parse_count};
use crate::outcome::Outcome;
use crate::output::{stdout, tell};

/// The subcommand that tries one family's kernels.
pub const FAMILY_COMMAND: &str = "prove-family";
/// Time for a kernel unless told otherwise: thousands of times what one takes.
const LIMIT_S: usize = 60;
/// Time for what comes between kernels: the model is read, the layers ahead are computed.
const BETWEEN_LIMIT: Duration = Duration::from_secs(600);
const REPEAT_LEN: usize = 20;

/// Prove kernels on a GPU, which are not used before
///
/// Some kernels are written for one architecture, by rules that only the device itself can confirm.
/// Each is compared with the kernel that all devices run: for every layer and batch size, on exact
/// integers and on a network's own values, alone, beside other work and in a graph. What each has
/// shown is stored beside the tuning, and counts for this device, driver and program alone. Engines
/// use a kernel that was proven, and go without one that was refused or that nobody tried.
///
/// What has a verdict is not tried again. A kernel that crashes or hangs costs a process of its own
/// alone. Exit status 3 means that kernels were refused.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    gpu: GpuOptions,
    #[command(flatten)]
    trials: Trials,
    /// Try those again that have a verdict
    #[arg(long)]
    again: bool,
    /// Seconds after which a kernel that has not ended is refused
    #[arg(long, value_name = "SECONDS", value_parser = parse_count, default_value_t = LIMIT_S)]
    limit: usize,
    /// One JSON object a kernel, layer and batch size
    #[arg(long)]
    json: bool,
}

/// Try one family's kernels; known verdicts come on stdin, new ones go to stdout
#[derive(Args)]
pub struct FamilyOptions {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    gpu: GpuOptions,
    #[command(flatten)]
    trials: Trials,
}

#[derive(Args, Clone)]
struct Trials {
    /// Batch sizes, each rounded up to a power of two [default: all]
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', value_parser = parse_count)]
    batches: Vec<usize>,
    /// The one family of kernels that is tried, such as conv_wgmma [default: all]
    #[arg(long)]
    family: Option<String>,
    /// Choices to try for each convolution, the likeliest first [default: all]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    choices: Option<usize>,
    /// Launches of a kernel that must agree bit for bit
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value_t = REPEAT_LEN)]
    repeats: usize,
}

impl Trials {
    fn options(&self) -> ProveOptions {
        let options = ProveOptions::default()
            .repeat_len(self.repeats)
            .family(self.family.clone())
            .choice_len(self.choices.unwrap_or(usize::MAX));
        if self.batches.is_empty() { options } else { options.batch_lens(self.batches.clone()) }
    }
}

/// What the process of a family says: a case that it begins, or one that has a verdict.
#[derive(Serialize, Deserialize)]
struct Message {
    case: Case,
    verdict: Option<Verdict>,
}

#[derive(Serialize)]
struct Row<'a> {
    layer: &'a str,
    batch_len: usize,
    kernel: &'a str,
    split_len: u32,
    is_equal: bool,
    reason: Option<&'a str>,
}

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let model = options.model.load()?;
    let size = options.model.size(&model);
    let cuda = options.gpu.options(&model, (size, options.model.precision))?;
    let mut proof = Proof::new((&options.model, &options.gpu), cuda, options.trials.clone())?;
    proof.limit = Duration::from_secs(options.limit as u64);
    if options.again {
        proof.known = Verdicts::default();
    }
    let mut output = stdout();
    let mut by_kernel: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let (case_len, refused_len) = proof.prove(&model, &mut |case, verdict| {
        let reason = reason(verdict);
        let (proven_len, of_len) = by_kernel.entry(case.kernel.clone()).or_default();
        (*proven_len, *of_len) = (*proven_len + usize::from(reason.is_none()), *of_len + 1);
        if options.json {
            write_line(&mut output, &row(case, verdict))
        } else if let Some(reason) = reason {
            let Case { kernel, layer, batch_len, .. } = case;
            Ok(writeln!(output, "{kernel} refused at {layer}, up to {batch_len} images: {reason}")?)
        } else {
            Ok(())
        }
    })?;
    if !options.json {
        for (kernel, (proven_len, of_len)) in by_kernel {
            writeln!(output, "{kernel}: {proven_len} of {of_len} proven")?;
        }
        if case_len == 0 {
            writeln!(output, "nothing that needs a proof is without a verdict")?;
        }
    }
    tell(format_args!("stored in {}", proof.path.display()));
    Ok(if refused_len == 0 { Outcome::AllAnswered } else { Outcome::SomeFailed })
}

/// Proves what has no verdict yet, of so many choices a convolution, before their times are
/// measured; returns all verdicts.
pub fn ahead(
    options: (&ModelOptions, &GpuOptions),
    (model, cuda): (&Model, &CudaOptions),
    (batches, choices): (&[usize], usize),
) -> anyhow::Result<Verdicts> {
    let choices = Some(choices);
    let trials = Trials { batches: batches.to_vec(), family: None, choices, repeats: REPEAT_LEN };
    let mut proof = Proof::new(options, cuda.clone(), trials)?;
    let (case_len, refused_len) = proof.prove(model, &mut |_, _| Ok(()))?;
    if case_len > 0 {
        let proven_len = case_len - refused_len;
        tell(format_args!(
            "{proven_len} of {case_len} kernels by layer and batch are proven now, stored in {}",
            proof.path.display()
        ));
    }
    Ok(proof.known)
}

/// Tries the cases of one family in this process.
pub fn run_family(options: &FamilyOptions) -> anyhow::Result<Outcome> {
    let mut known = Vec::new();
    std::io::stdin().read_to_end(&mut known)?;
    let model = options.model.load()?;
    let size = options.model.size(&model);
    let cuda = options.gpu.options(&model, (size, options.model.precision))?;
    let cuda = cuda.verdicts(serde_json::from_slice(&known).context("the verdicts on stdin")?);
    let mut output = stdout();
    let mut said = Ok(());
    prove(&model, &cuda, &options.trials.options(), &mut |case, verdict| {
        let message = Message { case: case.clone(), verdict: verdict.cloned() };
        if said.is_ok() {
            said = write_line(&mut output, &message).and_then(|()| Ok(output.flush()?));
        }
    })?;
    said.map(|()| Outcome::AllAnswered)
}

fn reason(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Equal => None,
        Verdict::Refused(reason) => Some(reason),
    }
}

fn row<'a>(case: &'a Case, verdict: &'a Verdict) -> Row<'a> {
    Row {
        layer: &case.layer,
        batch_len: case.batch_len,
        kernel: &case.kernel,
        split_len: case.split_k,
        is_equal: *verdict == Verdict::Equal,
        reason: reason(verdict),
    }
}

/// How the process of a family ended.
enum End {
    /// All its cases have a verdict.
    Done,
    /// Before that: at which case, and how.
    Died(Option<Case>, String),
}

/// Is told of each verdict.
type Note<'a> = dyn FnMut(&Case, &Verdict) -> anyhow::Result<()> + 'a;

/// What is proven, and how.
struct Proof {
    cuda: CudaOptions,
    trials: Trials,
    /// Of a family's process, behind the family.
    arguments: Vec<std::ffi::OsString>,
    limit: Duration,
    /// What is not tried, and what was found of the rest.
    known: Verdicts,
    found: Vec<(Case, Verdict)>,
    path: PathBuf,
}

impl Proof {
    fn new(
        (model, gpu): (&ModelOptions, &GpuOptions),
        cuda: CudaOptions,
        trials: Trials,
    ) -> anyhow::Result<Self> {
        let mut arguments = [model.arguments(), gpu.arguments()].concat();
        arguments.extend(["--repeats".into(), trials.repeats.to_string().into()]);
        if let Some(choices) = trials.choices {
            arguments.extend(["--choices".into(), choices.to_string().into()]);
        }
        if !trials.batches.is_empty() {
            let batches: Vec<_> = trials.batches.iter().map(usize::to_string).collect();
            arguments.extend(["--batches".into(), batches.join(",").into()]);
        }
        Ok(Self {
            trials,
            arguments,
            limit: Duration::from_secs(LIMIT_S as u64),
            known: cuda.verdicts.clone(),
            found: Vec::new(),
            path: verdicts_path(&gpu.tuning_path()?),
            cuda,
        })
    }

    /// Tries all cases, stores each family's verdicts, and returns how many cases there were, and
    /// how many of them were refused.
    fn prove(&mut self, model: &Model, note: &mut Note) -> anyhow::Result<(usize, usize)> {
        let cuda = self.cuda.clone().verdicts(self.known.clone());
        let cases = cases(model, &cuda, &self.trials.options())?;
        let mut families: Vec<&str> = cases.iter().map(|case| case.family.as_str()).collect();
        families.sort_unstable();
        families.dedup();
        let mut refused_len = 0;
        for family in families {
            let proven = self.prove_family(family, &cases, &mut |case, verdict| {
                refused_len += usize::from(*verdict != Verdict::Equal);
                note(case, verdict)
            });
            // What is known is kept, whatever the rest came to.
            self.store()?;
            proven?;
        }
        Ok((cases.len(), refused_len))
    }

    fn prove_family(
        &mut self,
        family: &str,
        cases: &[Case],
        note: &mut Note,
    ) -> anyhow::Result<()> {
        loop {
            let mut judged_len = 0;
            let mut judge = |proof: &mut Self, case: &Case, verdict: Verdict| {
                if !cases.contains(case) {
                    bail!("{family}: a verdict on {}, which was not asked for", case.kernel);
                }
                judged_len += 1;
                note(case, &verdict)?;
                proof.known.set(case, verdict.clone());
                proof.found.push((case.clone(), verdict));
                Ok(())
            };
            match self.run_family(family, &mut judge)? {
                End::Done => return Ok(()),
                End::Died(Some(case), how) => judge(self, &case, Verdict::Refused(how))?,
                End::Died(None, how) if judged_len == 0 => bail!("proving {family}: {how}"),
                // Behind its verdict.
                End::Died(None, _) => {}
            }
        }
    }

    /// Adds what was found to the file, in which others may have stored theirs meanwhile.
    fn store(&self) -> anyhow::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut stored = Verdicts::load(&self.path)?;
        self.found.iter().for_each(|(case, verdict)| stored.set(case, verdict.clone()));
        Ok(stored.save(&self.path)?)
    }

    /// A process that tries what is not known of a family.
    fn run_family(
        &mut self,
        family: &str,
        judge: &mut dyn FnMut(&mut Self, &Case, Verdict) -> anyhow::Result<()>,
    ) -> anyhow::Result<End> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command.arg(FAMILY_COMMAND).args(["--family", family]).args(&self.arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Killed(command.spawn().context("starting a process for the proof")?);
        let mut input = child.0.stdin.take().expect("it has a pipe");
        // Where it ends before it has read all, its end says why.
        _ = serde_json::to_writer(&mut input, &self.known);
        drop(input);
        let lines = lines_of(&mut child.0);
        let mut at = None;
        loop {
            let limit = if at.is_some() { self.limit } else { BETWEEN_LIMIT };
            match lines.recv_timeout(limit) {
                Ok(line) => {
                    let said: serde_json::Result<Message> = serde_json::from_str(&line);
                    match said.with_context(|| format!("proving {family}: `{line}`"))? {
                        Message { case, verdict: None } => at = Some(case),
                        Message { case, verdict: Some(verdict) } => {
                            at = None;
                            judge(self, &case, verdict)?;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let how = format!("no end within {} s", limit.as_secs());
                    return Ok(End::Died(at, how));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = child.0.wait()?;
                    let is_done = status.success() && at.is_none();
                    return Ok(if is_done { End::Done } else { End::Died(at, words(status)) });
                }
            }
        }
    }
}

/// A process that does not outlive this.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails where it has ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// What a process says, line by line, until it ends.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let output = child.stdout.take().expect("it has a pipe");
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn words(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("the process that tried it was ended by signal {signal}"),
        None => format!("the process that tried it ended with {status}"),
    }
}
