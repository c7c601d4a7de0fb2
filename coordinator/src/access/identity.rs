//! Who calls, and what they may do.

use std::fmt;
use std::sync::Arc;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Compute and explain.
    Compute,
    /// See products and scenes.
    CatalogRead,
    /// Register and remove imagery.
    CatalogWrite,
    /// See what the fleet does.
    Admin,
    /// Be a worker: compute for everybody.
    Worker,
}

impl Scope {
    /// Every scope, in the order of the manual.
    pub const ALL: [Scope; 5] =
        [Scope::Compute, Scope::CatalogRead, Scope::CatalogWrite, Scope::Admin, Scope::Worker];

    /// The name in key files, tokens and messages.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Compute => "compute",
            Scope::CatalogRead => "catalog:read",
            Scope::CatalogWrite => "catalog:write",
            Scope::Admin => "admin",
            Scope::Worker => "worker",
        }
    }

    /// The scope with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// All but one: being a worker is never had by default.
    pub fn all_but(scope: Scope) -> Scopes {
        Scopes::of(Scope::ALL.into_iter().filter(|other| *other != scope))
    }

    /// All of them.
    pub fn all() -> Scopes {
        Scopes::of(Scope::ALL)
    }

    /// Some of them.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Scopes {
        Scopes(scopes.into_iter().fold(0, |set, scope| set | 1 << scope as u8))
    }

    /// The scopes among names; other names mean something to somebody else.
    pub fn known<'a>(names: impl IntoIterator<Item = &'a str>) -> Scopes {
        Scopes::of(names.into_iter().filter_map(Scope::from_name))
    }

    /// Whether a scope is in the set.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u8 != 0
    }

    /// The scopes of both.
    pub fn and(self, other: Scopes) -> Scopes {
        Scopes(self.0 | other.0)
    }

    /// The scopes in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Scope::name)).finish()
    }
}

/// Bytes of a tenant's name.
const TENANT_BYTES_MAX: usize = 128;

/// A caller: on whose behalf, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whose pixels, quotas and remembered tiles these are; empty where nobody is asked who they are.
    pub tenant: Arc<str>,
    /// What the caller may do.
    pub scopes: Scopes,
}

impl Identity {
    /// Somebody who was not asked, where nobody is: may do everything.
    pub fn anonymous() -> Identity {
        Identity { tenant: "".into(), scopes: Scopes::all() }
    }

    /// Who makes a request, as the layer in front of the services found; where there is no such layer,
    /// as in the embedded engine, anybody.
    pub fn of<T>(request: &tonic::Request<T>) -> Identity {
        request.extensions().get::<Identity>().cloned().unwrap_or_else(Identity::anonymous)
    }
}

/// Whether a text can be a tenant's name: it appears in logs, keys of caches and messages.
pub(super) fn is_tenant(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '`');
    !name.is_empty() && name.len() <= TENANT_BYTES_MAX && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_what_they_were_made_of() {
        for scope in Scope::ALL {
            assert_eq!(Scope::from_name(scope.name()), Some(scope));
            let alone = Scopes::of([scope]);
            assert!(Scope::ALL.into_iter().all(|other| alone.has(other) == (other == scope)));
            let rest = Scopes::all_but(scope);
            assert!(Scope::ALL.into_iter().all(|other| rest.has(other) == (other != scope)));
        }
        assert_eq!(Scopes::known(["openid", "compute", "computes"]), Scopes::of([Scope::Compute]));
    }

    #[test]
    fn names_of_tenants() {
        for name in ["a", "acme", "auth0|5f7", "https://id.example/~b", &"x".repeat(128)] {
            assert!(is_tenant(name), "{name}");
        }
        for name in ["", " a", "a\n", "ä", "a\0", "a`b", &"x".repeat(129)] {
            assert!(!is_tenant(name), "{name:?}");
        }
    }
}
