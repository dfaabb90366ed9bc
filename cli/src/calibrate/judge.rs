//! What a calibration must keep to be written, and what makes its figures doubtful.
//!
//! Invariant: what a limit refuses is written by force alone, and then said aloud.

use std::path::Path;

use anyhow::bail;
use twinstream::calibrate::{LayerReport, Report};
use twinstream::model::top_k;

use super::summary::{Accuracy, Summary};
use super::{Job, Options};
use crate::output::tell;

/// Different images that a calibration takes at least. The same images judge it, so that few of
/// them lose nothing while others do. Of the repository's network, three draws each, top-1 on 400
/// others was 46 to 62 % after one image, 60 to 69 % after two, 64 to 74 % after four, 75.5 to 77 %
/// after eight, and from 16 on 76 to 77 %, as in f32. This is twice that: some networks are harder,
/// and a quarter goes to trials.
const DISTINCT_MIN: usize = 32;
/// Points of top-1 that may be lost.
const LOSS_MAX_LABELLED: f64 = 1.0;
/// Images in a hundred whose class may change, where it is not known which is right.
const CHANGE_MAX_UNLABELLED: f64 = 2.0;
/// The same where it is known: a changed class that was wrong before costs no top-1, but shows as
/// well what rounding does. Looser, for top-1 judges too: three standard deviations above the limit
/// without classes, on two hundred images.
const CHANGE_MAX_LABELLED: f64 = 5.0;
/// Images that may always be lost, unless the user names a limit: of a few dozen, one is more than
/// any of the shares above.
const LOST_LEN: f64 = 1.0;
/// Standard deviations of chance within which labels tell nothing.
const CHANCE_DEVIATIONS: f64 = 2.0;
/// Layers that a refusal names.
const NAMED_LEN: usize = 3;

/// Refuses images that are too few, before anything is done with them.
pub(super) fn check_images(distinct_len: usize, folder: &Path, force: bool) -> anyhow::Result<()> {
    if distinct_len >= DISTINCT_MIN {
        return Ok(());
    }
    let problem = format!(
        "{}: different images: {distinct_len}, of the {DISTINCT_MIN} that are needed at least: \
         scales hold for what images show, and what so few lose says nothing of others",
        folder.display()
    );
    permit(&problem, "add images", force)
}

/// Refuses to write what loses more than `options` allow.
pub(super) fn check_loss(
    options: &Options,
    summary: &Summary,
    report: &Report,
) -> anyhow::Result<()> {
    let Some(excess) = excess(summary, options.loss_max) else { return Ok(()) };
    let problem = format!(
        "{excess}: most is lost by the outputs of {}, and by the weights of {}",
        names(&report.costliest_outputs()),
        names(&report.costliest_weights()),
    );
    permit(&problem, "calibrate with more images, allow more with --loss-max", options.force)
}

/// A problem is an error unless `force` makes it a warning.
fn permit(problem: &str, remedy: &str, force: bool) -> anyhow::Result<()> {
    if !force {
        bail!("{problem}: nothing is written; {remedy}, or write it in spite of that with --force");
    }
    tell(format_args!("warning: {problem}"));
    Ok(())
}

/// What is lost beyond what may be: `loss_max`, or else the defaults.
fn excess(summary: &Summary, loss_max: Option<f64>) -> Option<String> {
    let beyond = |share: f64, what: &str, limit: f64, spared_len: f64| {
        let lost = 100.0 * share;
        // Shares are no round numbers.
        let is_excess = lost > limit + 1e-6 && share * summary.images as f64 > spared_len + 1e-6;
        is_excess.then(|| format!("{lost:.2} {what}, and {limit} may be"))
    };
    let changed = 1.0 - summary.agreement;
    let change = "% of the classes change";
    let spared_len = if loss_max.is_some() { 0.0 } else { LOST_LEN };
    let (Some(f32), Some(i8)) = (&summary.f32, &summary.i8) else {
        return beyond(changed, change, loss_max.unwrap_or(CHANGE_MAX_UNLABELLED), spared_len);
    };
    let limit = loss_max.unwrap_or(LOSS_MAX_LABELLED);
    beyond(f32.top1 - i8.top1, "points of top-1 are lost", limit, spared_len)
        // Who allows more points to be lost allows as many classes to change.
        .or_else(|| beyond(changed, change, limit.max(CHANGE_MAX_LABELLED), LOST_LEN))
}

fn names(layers: &[&LayerReport]) -> String {
    let names: Vec<&str> = layers.iter().take(NAMED_LEN).map(|layer| &*layer.name).collect();
    names.join(", ")
}

/// Warns where the answers in f32, `logits`, show that images or labels are not what they should
/// be.
pub(super) fn tell_doubts(job: &Job, class_count: usize, logits: &[f32]) {
    let mut answers = logits.chunks_exact(class_count).map(|logits| top_k(logits, 1)[0].index);
    let first = answers.next();
    if class_count > 1 && answers.all(|answer| Some(answer) == first) {
        tell(
            "warning: the network takes all images for one class: those of others may have values \
             that none of these has",
        );
    }
    let Some(labels) = &job.labels else { return };
    let top1 = Accuracy::new(logits, labels).top1;
    if is_chance(top1, labels.len(), class_count) {
        tell(format_args!(
            "warning: in f32 {:.2} % of the images are in their class, as good as by chance among \
             {class_count}: the folders may not be the network's classes",
            100.0 * top1
        ));
    }
}

/// Whether guesses would be right as often as the share `top1` of `image_len` images.
fn is_chance(top1: f64, image_len: usize, class_count: usize) -> bool {
    let chance = 1.0 / class_count as f64;
    let deviation = (chance * (1.0 - chance) / image_len as f64).sqrt();
    class_count > 1 && top1 <= chance + CHANCE_DEVIATIONS * deviation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(images: usize, top1: Option<(f64, f64)>, agreement: f64) -> Summary {
        let accuracy = |top1| Accuracy { top1, top5: 1.0 };
        let (f32, i8) = top1.map(|(f32, i8)| (accuracy(f32), accuracy(i8))).unzip();
        Summary {
            images,
            distinct: images,
            left_out: 0,
            f32,
            i8,
            agreement,
            loss: 0.1,
            variance: 1.0,
        }
    }

    #[test]
    fn losses_are_judged_by_what_is_known() {
        let labelled = summary(200, Some((0.80, 0.79)), 0.96);
        assert_eq!(excess(&labelled, None), None);
        let found = excess(&labelled, Some(0.5)).unwrap();
        assert_eq!(found, "1.00 points of top-1 are lost, and 0.5 may be");
        assert!(excess(&summary(200, Some((0.80, 0.785)), 1.0), None).is_some());
        assert_eq!(excess(&summary(200, Some((0.80, 0.85)), 0.95), Some(0.0)), None);
        let unlabelled = summary(200, None, 0.97);
        let found = excess(&unlabelled, None).unwrap();
        assert_eq!(found, "3.00 % of the classes change, and 2 may be");
        assert_eq!(excess(&unlabelled, Some(3.0)), None);
    }

    /// A network whose answers change has changed, though as many are right as before.
    #[test]
    fn answers_must_stay_where_top1_does() {
        let flipped = summary(200, Some((0.80, 0.80)), 0.94);
        let found = excess(&flipped, None).unwrap();
        assert_eq!(found, "6.00 % of the classes change, and 5 may be");
        assert!(excess(&flipped, Some(0.0)).is_some());
        assert_eq!(excess(&flipped, Some(6.0)), None);
    }

    #[test]
    fn one_image_is_not_judged_by_its_share() {
        let share = |len: usize| 1.0 - len as f64 / 32.0;
        assert_eq!(excess(&summary(32, None, share(1)), None), None);
        assert!(excess(&summary(32, None, share(2)), None).is_some());
        assert!(excess(&summary(32, None, share(1)), Some(1.0)).is_some());
        assert_eq!(excess(&summary(32, Some((1.0, share(1))), share(1)), None), None);
        assert!(excess(&summary(32, Some((1.0, share(2))), share(2)), None).is_some());
        assert!(excess(&summary(32, Some((1.0, share(1))), share(1)), Some(0.0)).is_some());
    }

    #[test]
    fn labels_that_do_not_fit_are_chance() {
        for (top1, image_len, class_count, expected) in [
            (0.1, 200, 10, true),
            (0.14, 200, 10, true),
            (0.15, 200, 10, false),
            (0.2, 32, 10, true),
            (0.25, 32, 10, false),
            (0.0, 32, 1000, true),
            (0.5, 32, 1000, false),
            (0.5, 200, 2, true),
            (0.8, 200, 2, false),
            (1.0, 200, 1, false),
        ] {
            let found = is_chance(top1, image_len, class_count);
            assert_eq!(found, expected, "{top1} of {image_len} among {class_count}");
        }
    }
}
