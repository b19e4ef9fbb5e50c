//! The early stage in an initramfs: what it goes by, beside what the host has now.
//!
//! Only words: what an image holds is looked up by the kernel layer.

use serde::{Deserialize, Serialize};

use super::{Finding, facts::Image};

/// What an initramfs with an early stage holds for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// The command that makes the image anew.
    pub renew: String,
    /// What is in it, beside what the host has now.
    pub holding: Holding,
}

/// How what an image holds compares with what the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holding {
    /// It is the same.
    Same,
    /// The verdicts of a former boot are others.
    OtherVerdicts,
    /// The config is another one.
    OtherConfig,
    /// Nobody knows of anything in it.
    Nothing,
}

/// What the early stage in the image goes by.
pub(super) fn early(name: &'static str, image: &Image) -> Option<Finding> {
    let held = image.early.as_ref()?;
    if let Some(text) = older_config(&image.file, held.holding) {
        let advice = format!(
            "run {}; until then what differs is given back in the real root, or taken late",
            held.renew
        );
        return Some(Finding::warn(name, text, advice));
    }
    // Never wrong: the real root judges by what is known now.
    (held.holding == Holding::OtherVerdicts).then(|| Finding {
        advice: format!(
            "{} has these taken before their drivers come, or left to them",
            held.renew
        ),
        ..Finding::ok(
            name,
            format!(
                "{} was made before this boot found which functions are idle",
                image.file
            ),
        )
    })
}

/// Whether the early stage in the initramfs `file` goes by another config than
/// that of now, in words.
#[must_use]
pub fn older_config(file: &str, holding: Holding) -> Option<String> {
    match holding {
        Holding::Same | Holding::OtherVerdicts => None,
        Holding::OtherConfig => Some(format!(
            "{file} holds a config of vfio-bindd that is not the one of now"
        )),
        Holding::Nothing => Some(format!(
            "{file} was made without the early stage of vfio-bindd, or that is not known"
        )),
    }
}
