//! From logits to ranked classes.

/// A class with its share of the softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// Position among the logits.
    pub index: usize,
    /// Softmax of the logits at `index`, 0 to 1.
    pub probability: f32,
}

/// Softmax of `logits`, in place; the values then sum to 1.
pub fn softmax(logits: &mut [f32]) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in logits.iter_mut() {
        *value = (*value - max).exp();
        sum += *value;
    }
    for value in logits {
        *value /= sum;
    }
}

/// The `count` most probable classes of one image's `logits`, best first; ties by lower index.
pub fn top_k(logits: &[f32], count: usize) -> Vec<Class> {
    let mut probabilities = logits.to_vec();
    softmax(&mut probabilities);
    let mut classes: Vec<Class> = probabilities
        .into_iter()
        .enumerate()
        .map(|(index, probability)| Class { index, probability })
        .collect();
    classes.sort_by(|a, b| logits[b.index].total_cmp(&logits[a.index]).then(a.index.cmp(&b.index)));
    classes.truncate(count);
    classes
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
}
