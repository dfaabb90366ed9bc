//! From logits to what a request is answered with: the logits themselves, or ranked classes.

use crate::error::{Error, Kind, Result};

/// A class with its share of the softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// Position among the logits.
    pub index: usize,
    /// Softmax of the logits at `index`, 0 to 1.
    pub probability: f32,
}

/// What a device answers an image with, as 32-bit floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// A logit for each class.
    #[default]
    Logits,
    /// So many of the most probable classes, best first, each as its index and its probability:
    /// [`top_k_of`] reads them.
    TopK(usize),
}

/// Floats of a class in an answer of [`Answer::TopK`].
const CLASS_VALUE_LEN: usize = 2;

impl Answer {
    /// Floats of an answer about so many classes.
    ///
    /// # Errors
    /// `is_argument` when none or more classes are asked for than there are.
    pub fn value_len(self, class_count: usize) -> Result<usize> {
        match self {
            Self::Logits => Ok(class_count),
            Self::TopK(count) if (1..=class_count).contains(&count) => Ok(CLASS_VALUE_LEN * count),
            Self::TopK(count) => {
                let message = format!("top {count} classes: must be from 1 to {class_count}");
                Err(Error::new(Kind::Argument, message))
            }
        }
    }

    /// Answers with one image's logits, without allocating.
    pub(crate) fn write(self, logits: &[f32], answer: &mut [f32]) {
        match self {
            Self::Logits => answer.copy_from_slice(logits),
            Self::TopK(_) => write_top_k(logits, answer),
        }
    }
}

/// The `count` most probable classes of one image's `logits`, best first; ties by lower index.
pub fn top_k(logits: &[f32], count: usize) -> Vec<Class> {
    let mut answer = vec![0.0; CLASS_VALUE_LEN * count.min(logits.len())];
    write_top_k(logits, &mut answer);
    top_k_of(&answer).collect()
}

/// The classes of an answer of [`Answer::TopK`].
pub fn top_k_of(answer: &[f32]) -> impl Iterator<Item = Class> + '_ {
    // Indices are far below 2^24, so an f32 holds them as they are.
    answer
        .chunks_exact(CLASS_VALUE_LEN)
        .map(|class| Class { index: class[0] as usize, probability: class[1] })
}

/// A pass over the logits for each class: the best one below the one before.
fn write_top_k(logits: &[f32], answer: &mut [f32]) {
    // Whatever its sign, NaN is one value.
    let logit = |index: usize| if logits[index].is_nan() { f32::NAN } else { logits[index] };
    let order =
        |&one: &usize, &other: &usize| logit(other).total_cmp(&logit(one)).then(one.cmp(&other));
    let (mut before, mut sum) = (None, 1.0);
    let mut largest = 0.0;
    for class in answer.chunks_exact_mut(CLASS_VALUE_LEN) {
        let below =
            |index: &usize| before.is_none_or(|before: usize| order(&before, index).is_lt());
        let best = (0..logits.len()).filter(below).min_by(order);
        let best = best.expect("no more classes are asked for than there are");
        if before.is_none() {
            largest = logits[best];
            sum = logits.iter().map(|logit| (logit - largest).exp()).sum();
        }
        class[0] = best as f32;
        class[1] = (logits[best] - largest).exp() / sum;
        before = Some(best);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_by_logit_then_index() {
        let top = top_k(&[1.0, 3.0, 3.0, -200.0], 3);
        assert_eq!(top.iter().map(|class| class.index).collect::<Vec<_>>(), [1, 2, 0]);
        let expected = 1.0 / (2.0 + (-2.0f32).exp());
        assert!((top[0].probability - expected).abs() < 1e-6);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let top = top_k(&[1e4, -1e4], 5);
        assert_eq!(top.len(), 2);
        assert_eq!(top[0].probability, 1.0);
    }

    #[test]
    fn equal_logits_keep_their_order_and_nan_ranks_first() {
        let indices = |logits: &[f32]| -> Vec<usize> {
            top_k(logits, logits.len()).iter().map(|class| class.index).collect()
        };
        assert_eq!(indices(&[0.5; 4]), [0, 1, 2, 3]);
        for nan in [f32::NAN, -f32::NAN] {
            assert_eq!(indices(&[1.0, nan, f32::INFINITY, -0.0, 0.0]), [1, 2, 0, 4, 3]);
        }
    }

    #[test]
    fn more_classes_than_there_are_are_refused() {
        assert_eq!(Answer::Logits.value_len(10).unwrap(), 10);
        assert_eq!(Answer::TopK(10).value_len(10).unwrap(), 20);
        for count in [0, 11] {
            assert!(Answer::TopK(count).value_len(10).unwrap_err().is_argument());
        }
    }
}
