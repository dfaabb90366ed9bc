//! The names of the classes, under each of the keys and in each of the forms that carry them.

use super::json::{Field, Json, error};
use super::keys::Keys;
use crate::error::{Error, Result};

/// Keys with the names, the first of them goes before the others, as timm has it.
const KEYS: [&str; 3] = ["label_names", "labels", "id2label"];

/// Most classes that names may be for: a thousand times those of the largest sets, it bounds the
/// memory that a short file can ask for.
const CLASSES_MAX: usize = 1_000_000;

/// The names in the order of the logits, none where the file has none; what was passed over goes
/// to `notes`.
pub(super) fn read(keys: &Keys<'_>, notes: &mut Vec<String>) -> Result<Vec<String>> {
    let top_and_inner = |key| [keys.top(key), keys.inner(key)];
    let mut found: Option<(Field<'_>, Vec<String>)> = None;
    let [label_names, labels, id2label] = KEYS.map(top_and_inner);
    let fields = label_names.into_iter().chain(labels).chain(id2label).flatten();
    for field in fields {
        let names = names(field)?;
        match &found {
            _ if names.is_empty() => {}
            None => found = Some((field, names)),
            Some((first, other)) if *other != names => notes.push(format!(
                "{} and {} name the classes differently: the first holds",
                first.name(),
                field.name()
            )),
            Some(_) => {}
        }
    }
    check_descriptions(keys)?;
    if found.is_none() {
        let others = ["label2id", "label_descriptions"];
        let passed = others.into_iter().filter_map(|key| keys.get(key));
        notes.extend(passed.map(|field| {
            format!("{} names no class by its number: write label_names", field.name())
        }));
    }
    Ok(found.map(|(_, names)| names).unwrap_or_default())
}

/// A list, or an object from a class's number to its name; classes that this leaves out stay
/// without one.
fn names(field: Field<'_>) -> Result<Vec<String>> {
    match field.value {
        Json::List(values) => {
            let wrong = |index: usize, value: &Json| {
                let place = format!("{}[{index}]", field.key);
                Field { key: &place, value, ..field }.wrong("the name of a class")
            };
            let name = |(index, value): (usize, &Json)| match value {
                Json::Text(name) => Ok(name.clone()),
                other => Err(wrong(index, other)),
            };
            values.iter().enumerate().map(name).collect()
        }
        Json::Object(entries) => {
            let mut names: Vec<Option<String>> = Vec::new();
            for (key, value) in entries {
                let entry = Field { place: field.key, key, value };
                let index = index(entry)?;
                let Json::Text(name) = value else {
                    return Err(entry.wrong("the name of a class"));
                };
                names.resize(names.len().max(index + 1), None);
                if names[index].replace(name.clone()).is_some() {
                    return Err(error(format!("{} names class {index} twice", field.name())));
                }
            }
            let names = names.into_iter().enumerate();
            Ok(names.map(|(index, name)| name.unwrap_or_else(|| unnamed(index))).collect())
        }
        _ => Err(field.wrong("a list of names, or an object from each class's number to its name")),
    }
}

/// What stands for the name of a class that has none.
pub(crate) fn unnamed(index: usize) -> String {
    format!("class {index}")
}

fn index(entry: Field<'_>) -> Result<usize> {
    let wrong = || -> Error {
        error(format!(
            "{}: expected the number of a class, from 0 to {}, and its name as the value",
            entry.name(),
            CLASSES_MAX - 1
        ))
    };
    let index = entry.key.trim().parse().ok();
    index.filter(|index| *index < CLASSES_MAX).ok_or_else(wrong)
}

/// Longer texts than the names, which nothing shows; still no other type is taken for them.
fn check_descriptions(keys: &Keys<'_>) -> Result<()> {
    let key = "label_descriptions";
    for field in [keys.top(key), keys.inner(key)].into_iter().flatten() {
        let values = match field.value {
            Json::Object(entries) => entries.iter().map(|(_, value)| value).collect(),
            Json::List(values) => values.iter().collect(),
            _ => vec![field.value],
        };
        let is_text = |value: &&Json| matches!(value, Json::Text(_));
        if !values.iter().all(is_text) || matches!(field.value, Json::Text(_)) {
            return Err(field.wrong("an object from each class's name to its description"));
        }
    }
    Ok(())
}
