//! Which network a file's tensors are, where it is not ResNet-50 under torchvision's names.
//!
//! Looks at names and shapes alone, and only at what tells a relative of ResNet-50 from it; whether
//! all that ResNet-50 needs is there is checked elsewhere. ResNet-50 v1 and v1.5 cannot be told
//! apart: they differ in strides, which no file of weights holds.

/// The channels that reach the last layer.
const FEATURE_LEN: usize = 2048;

/// What stands before the names of a network that something holds, such as `module.`: told by one
/// tensor that every ResNet has.
pub(super) fn prefix<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.find_map(|name| name.strip_suffix("layer1.0.conv1.weight").filter(|p| p.ends_with('.')))
}

/// What the tensors are and what to do about it; none where they may be ResNet-50. `names` are all,
/// without a prefix that they share, `shape` has the shape of one.
pub(super) fn problem<'a, N: Iterator<Item = &'a str>>(
    names: impl Fn() -> N,
    shape: impl Fn(&str) -> Option<&'a [usize]>,
) -> Option<String> {
    let has = |name: &str| shape(name).is_some();
    if names().any(|name| name.contains("embedder.embedder.convolution")) {
        return Some(
            "these are the tensors of a ResNet of Hugging Face's transformers, whose names are \
             not read: export the network from torchvision or timm (docs/WEIGHTS.md)"
                .to_owned(),
        );
    }
    if !has("layer1.0.conv1.weight")
        && let Some(prefix) = prefix(names())
    {
        return Some(partly_prefixed(prefix, &names, &has));
    }
    if has("conv1.weight")
        && let Some(network) = relative(&names, &has, &shape)
    {
        return Some(format!(
            "these are the tensors of {network}: expected ResNet-50, as of torchvision or timm's \
             resnet50 (docs/WEIGHTS.md)"
        ));
    }
    if has("conv1.0.weight") {
        return Some(
            "the first convolution is a stack (conv1.0.weight, …), as in ResNet-50-C or -D, SE and \
             ResNeSt variants: expected plain ResNet-50 (docs/WEIGHTS.md)"
                .to_owned(),
        );
    }
    if has("fc.weight") || !has("conv1.weight") {
        return None;
    }
    Some(head(&names, &shape))
}

/// What to do about a network beside whose tensors there are others.
fn partly_prefixed<'a, N: Iterator<Item = &'a str>>(
    prefix: &str,
    names: &impl Fn() -> N,
    has: &impl Fn(&str) -> bool,
) -> String {
    let others = || names().filter(|name| !name.starts_with(prefix));
    // The last layer may be among the others.
    let keep = match has(&format!("{prefix}fc.weight")) {
        true => format!(" if k.startswith(\"{prefix}\")"),
        false => String::new(),
    };
    format!(
        "the network's names carry the prefix {prefix}, but {} ({} in all) does not; before \
         save_file:\n    \
         state = {{k.removeprefix(\"{prefix}\"): v for k, v in state.items(){keep}}}",
        others().next().unwrap_or_default(),
        others().count()
    )
}

/// The network that the tensors are in place of ResNet-50.
fn relative<'a, N: Iterator<Item = &'a str>>(
    names: &impl Fn() -> N,
    has: &impl Fn(&str) -> bool,
    shape: &impl Fn(&str) -> Option<&'a [usize]>,
) -> Option<String> {
    let block_len = |stage: usize| {
        let conv = |block: &usize| has(&format!("layer{stage}.{block}.conv1.weight"));
        (0..).take_while(conv).count()
    };
    let blocks = [1, 2, 3, 4].map(block_len);
    if blocks.contains(&0) {
        return None;
    }
    let is_basic = !has("layer1.0.conv3.weight");
    let depth = match (blocks, is_basic) {
        ([2, 2, 2, 2], true) => "ResNet-18",
        ([3, 4, 6, 3], true) => "ResNet-34",
        ([2, 2, 2, 2], false) => "ResNet-26",
        ([3, 4, 6, 3], false) => "ResNet-50",
        ([3, 4, 23, 3], false) => "ResNet-101",
        ([3, 8, 36, 3], false) => "ResNet-152",
        _ if is_basic => "a ResNet of basic blocks",
        _ => "a ResNet of bottlenecks",
    };
    let part = |part: &str| names().any(|name| name.contains(part));
    let (outer, inner) = match shape("layer1.0.conv2.weight") {
        Some(&[outer, inner, _, _]) => (outer, inner),
        _ => (0, 0),
    };
    let kind = if part(".se.") || part(".se_module.") {
        " with squeeze-and-excitation"
    } else if outer > inner {
        " with grouped convolutions (ResNeXt)"
    } else if !is_basic && outer > 64 {
        " of another width (Wide ResNet)"
    } else if shape("layer1.0.downsample.1.weight").is_some_and(|shape| shape.len() == 4) {
        " with pooling before projections (ResNet-D)"
    } else {
        ""
    };
    // Other depths of their own: those whose blocks are missing may just be incomplete.
    let is_larger = blocks.iter().zip([3, 4, 6, 3]).any(|(&found, expected)| found > expected);
    let is_known = is_basic || is_larger || blocks == [2, 2, 2, 2];
    (!kind.is_empty() || is_known && depth != "ResNet-50").then(|| format!("{depth}{kind}"))
}

/// What to do about a last layer that is not `fc`.
fn head<'a, N: Iterator<Item = &'a str>>(
    names: &impl Fn() -> N,
    shape: &impl Fn(&str) -> Option<&'a [usize]>,
) -> String {
    let linear = |name: &&str| shape(name).is_some_and(|shape| shape.len() == 2);
    let heads: Vec<&str> =
        names().filter(linear).filter_map(|name| name.strip_suffix(".weight")).collect();
    let missing = "tensor fc.weight is missing";
    match heads[..] {
        [] => format!(
            "{missing}: the network was stored without its last layer, and cannot classify: export \
             it with its classifier"
        ),
        [head] if shape(&format!("{head}.weight")).is_some_and(|s| s[1] == FEATURE_LEN) => format!(
            "{missing}: the last layer is called {head}; rename it before save_file:\n    \
             state[\"fc.weight\"] = state.pop(\"{head}.weight\")\n    \
             state[\"fc.bias\"] = state.pop(\"{head}.bias\")"
        ),
        _ => format!(
            "{missing}: the head is of other layers ({}); expected a single one of {FEATURE_LEN} \
             inputs, called fc",
            heads.join(", ")
        ),
    }
}
