//! Wish: what a caller of `ClaimWith` says of the functions that it wants.
//!
//! Pure. Owns the names of the options and what an owner may be called.

use std::{collections::HashMap, time::Duration};

use zbus::OwnedVariant;

use super::{
    api::BusError,
    request::{Lasts, Wish},
};
use crate::{engine::claims::Share, policy::placement::Placement};

/// An owner's name is shown in one line.
const LONGEST_OWNER: usize = 255;

/// The options of `ClaimWith`.
pub(super) type Options = HashMap<String, OwnedVariant>;

/// Who calls, for a claim that lasts as long as its connection.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) name: String,
    /// The id of the bus.
    pub(super) bus: String,
}

/// The part of a mapping that is `count` devices, all of it for 0.
pub(super) const fn share(count: u32) -> Share {
    match count {
        0 => Share::All,
        count => Share::Devices(count),
    }
}

/// What `caller` wants, if it says so in a way that can be understood.
pub(super) fn wish(
    caller: Caller,
    mapping: &str,
    owner: &str,
    options: Options,
) -> Result<Wish, BusError> {
    named(owner)?;
    let mut wish = Wish {
        mapping: mapping.to_owned(),
        owner: owner.to_owned(),
        uid: caller.uid,
        share: Share::All,
        prefer_numa: None,
        placement: None,
        lasts: Lasts::UntilReleased,
    };
    let (mut shares, mut lasts) = (Vec::new(), Vec::new());
    for (name, value) in options {
        match name.as_str() {
            "count" => shares.push(share(number(&name, value)?)),
            "addresses" => {
                let texts: Vec<String> = typed(&name, "as", value)?;
                let parsed = texts.iter().map(|text| text.parse());
                let addresses = parsed.collect::<Result<_, _>>();
                let addresses = addresses.map_err(|error| invalid(&name, &format!("{error}")))?;
                shares.push(Share::These(addresses));
            }
            "prefer-numa" => wish.prefer_numa = Some(number(&name, value)?),
            "placement" => wish.placement = Some(placement(&typed::<String>(&name, "s", value)?)?),
            "pid" => lasts.push(Lasts::Process(number(&name, value)?)),
            "ttl-usec" => {
                let time = typed(&name, "t", value)?;
                lasts.push(Lasts::For(Duration::from_micros(time)));
            }
            "caller" => {
                if typed(&name, "b", value)? {
                    lasts.push(Lasts::Caller {
                        name: caller.name.clone(),
                        bus: caller.bus.clone(),
                    });
                }
            }
            _ => {
                return Err(BusError::InvalidArgument(format!(
                    "there is no option '{name}'; there are count, addresses, prefer-numa, \
                     placement, pid, ttl-usec and caller"
                )));
            }
        }
    }
    if shares.len() > 1 {
        let text = "count and addresses exclude one another";
        return Err(BusError::InvalidArgument(text.to_owned()));
    }
    if lasts.len() > 1 {
        let text = "pid, ttl-usec and caller exclude one another";
        return Err(BusError::InvalidArgument(text.to_owned()));
    }
    wish.share = shares.pop().unwrap_or(wish.share);
    wish.lasts = lasts.pop().unwrap_or(wish.lasts);
    Ok(wish)
}

/// Whether that can be an owner's name.
pub(super) fn named(owner: &str) -> Result<(), BusError> {
    let wrong = if owner.is_empty() {
        "is empty"
    } else if owner.len() > LONGEST_OWNER {
        "is longer than 255 bytes"
    } else if owner.chars().any(char::is_control) {
        "has control characters"
    } else if owner.trim() != owner {
        "begins or ends with a space"
    } else {
        return Ok(());
    };
    Err(invalid("owner", wrong))
}

fn placement(text: &str) -> Result<Placement, BusError> {
    let mut known = Placement::ALL.into_iter();
    let found = known.find_map(|(name, placement)| (name == text).then_some(placement));
    found.ok_or_else(|| {
        let names = Placement::ALL.map(|(name, _)| name).join(", ");
        invalid(
            "placement",
            &format!("is '{text}', and has to be one of {names}"),
        )
    })
}

fn number(name: &str, value: OwnedVariant) -> Result<u32, BusError> {
    typed(name, "u", value)
}

fn typed<T: TryFrom<OwnedVariant>>(
    name: &str,
    wanted: &str,
    value: OwnedVariant,
) -> Result<T, BusError> {
    let found = value.value_signature().to_string();
    T::try_from(value).map_err(|_| {
        invalid(
            name,
            &format!("is of the D-Bus type '{found}', and has to be of '{wanted}'"),
        )
    })
}

fn invalid(name: &str, wrong: &str) -> BusError {
    BusError::InvalidArgument(format!("{name} {wrong}"))
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    fn asked(options: &[(&str, Variant<'_>)]) -> Result<Wish, String> {
        let caller = Caller {
            uid: 7,
            name: ":1.5".to_owned(),
            bus: "b".to_owned(),
        };
        let options = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.try_to_owned().unwrap()))
            .collect();
        wish(caller, "gpu", "vm", options).map_err(|error| match error {
            BusError::InvalidArgument(text) => text,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn options_are_understood() {
        let plain = asked(&[]).unwrap();
        assert_eq!((plain.share, plain.uid), (Share::All, 7));
        assert_eq!(plain.lasts, Lasts::UntilReleased);
        let wish = asked(&[
            ("count", 2_u32.into()),
            ("prefer-numa", 1_u32.into()),
            ("placement", "spread".into()),
            ("ttl-usec", 5_000_000_u64.into()),
        ])
        .unwrap();
        assert_eq!((wish.share, wish.prefer_numa), (Share::Devices(2), Some(1)));
        assert_eq!(wish.placement, Some(Placement::Spread));
        assert_eq!(wish.lasts, Lasts::For(Duration::from_secs(5)));
        let wish = asked(&[
            ("addresses", vec!["0000:01:00.0"].into()),
            ("caller", true.into()),
        ])
        .unwrap();
        let address = "0000:01:00.0".parse().unwrap();
        assert_eq!(wish.share, Share::These(std::iter::once(address).collect()));
        assert!(matches!(wish.lasts, Lasts::Caller { name, .. } if name == ":1.5"));
        assert_eq!(
            asked(&[("pid", 4_u32.into())]).unwrap().lasts,
            Lasts::Process(4)
        );
        let all = asked(&[("count", 0_u32.into()), ("caller", false.into())]).unwrap();
        assert_eq!((all.share, all.lasts), (Share::All, Lasts::UntilReleased));
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        for (options, wanted) in [
            (
                vec![("number", 2_u32.into())],
                "there is no option 'number'",
            ),
            (
                vec![("count", "2".into())],
                "count is of the D-Bus type 's'",
            ),
            (
                vec![("placement", "near".into())],
                "placement is 'near', and has to be one of address, spread, pack",
            ),
            (vec![("pid", 4_i32.into())], "pid is of the D-Bus type 'i'"),
            (
                vec![("addresses", vec!["01:00.0", "gpu"].into())],
                "addresses ",
            ),
            (
                vec![
                    ("count", 1_u32.into()),
                    ("addresses", vec!["0000:01:00.0"].into()),
                ],
                "count and addresses exclude one another",
            ),
            (
                vec![("pid", 1_u32.into()), ("caller", true.into())],
                "pid, ttl-usec and caller exclude one another",
            ),
        ] {
            let text = asked(&options).unwrap_err();
            assert!(text.starts_with(wanted), "{text}");
        }
    }

    #[test]
    fn owners_have_names_that_fit_in_a_line() {
        for owner in ["100", "web 1", "käse", "a\"b", &"x".repeat(255)] {
            named(owner).unwrap();
        }
        for owner in [
            "",
            " a",
            "a ",
            "a\nb",
            "a\u{1b}[2J",
            "\u{85}",
            &"x".repeat(256),
        ] {
            assert!(named(owner).is_err(), "{owner:?}");
        }
    }
}
