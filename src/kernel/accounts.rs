//! Users and groups of this host, by name.
//!
//! Reads `/etc/passwd` and `/etc/group`, where system users are, those of
//! systemd-sysusers(8) and NixOS too. Users that only a name service knows are
//! given by number: to ask it takes the C library, and may take any time.
//! Source: passwd(5), group(5).

use super::{host::Host, usage::words};
use crate::policy::ownership::{Account, Ownership};

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// The number of a user.
///
/// # Errors
/// With a clause, if there is no such user or the file cannot be read.
pub fn user(host: &dyn Host, account: &Account) -> Result<u32, String> {
    find(host, account, "user", USERS)
}

/// The number of a group.
///
/// # Errors
/// As [`user`].
pub fn group(host: &dyn Host, account: &Account) -> Result<u32, String> {
    find(host, account, "group", GROUPS)
}

/// Who of `ownership` is not there, a clause each.
#[must_use]
pub fn missing(host: &dyn Host, ownership: &Ownership) -> Vec<String> {
    let owner = ownership.owner.as_ref().map(|one| user(host, one));
    let group = ownership.group.as_ref().map(|one| group(host, one));
    let both = [owner, group].into_iter().flatten();
    both.filter_map(Result::err).collect()
}

fn find(host: &dyn Host, account: &Account, what: &str, file: &str) -> Result<u32, String> {
    let name = match account {
        Account::Id(id) => return Ok(*id),
        Account::Name(name) => name,
    };
    let bytes = host.read(file);
    let bytes = bytes.map_err(|error| format!("{file}: {}", words(&error)))?;
    let text = String::from_utf8_lossy(&bytes);
    let found = text.lines().find_map(|line| {
        // Name, password, number: the same in both.
        let mut fields = line.split(':');
        let number = (fields.next()? == name).then(|| fields.nth(1))??;
        number.parse().ok()
    });
    found.ok_or_else(|| format!("there is no {what} \"{name}\" in {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::host::ThisHost;

    #[test]
    fn root_is_found_and_strangers_are_not() {
        let name = |text: &str| Account::Name(text.to_owned());
        assert_eq!(user(&ThisHost, &name("root")), Ok(0));
        assert_eq!(group(&ThisHost, &name("root")), Ok(0));
        assert_eq!(user(&ThisHost, &Account::Id(9_999_999)), Ok(9_999_999));
        let wanted = "there is no user \"nobody-at-all\" in /etc/passwd".to_owned();
        assert_eq!(user(&ThisHost, &name("nobody-at-all")), Err(wanted));
        let wanted = "there is no group \"nobody-at-all\" in /etc/group".to_owned();
        assert_eq!(
            group(&ThisHost, &name("nobody-at-all")),
            Err(wanted.clone())
        );
        let both = Ownership {
            owner: Some(name("root")),
            group: Some(name("nobody-at-all")),
            mode: None,
        };
        assert_eq!(missing(&ThisHost, &both), [wanted]);
    }
}
