//! Which call needs which scope: the one table.

use super::identity::Scope;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing, not even credentials.
    Nothing,
    /// Credentials that count, whatever they allow.
    Anybody,
    /// A scope.
    Scope(Scope),
}

/// Calls by their path, longest prefix first where one begins another. A name that ends with `/` stands
/// for a whole service.
const CALLS: &[(&str, Needs)] = &[
    ("/graticule.v1.ComputeService/Explain", Needs::Scope(Scope::Compute)),
    ("/graticule.v1.ComputeService/Compute", Needs::Scope(Scope::Compute)),
    ("/graticule.v1.CatalogService/ListProducts", Needs::Scope(Scope::CatalogRead)),
    ("/graticule.v1.CatalogService/GetProduct", Needs::Scope(Scope::CatalogRead)),
    ("/graticule.v1.CatalogService/GetScene", Needs::Scope(Scope::CatalogRead)),
    ("/graticule.v1.CatalogService/SearchScenes", Needs::Scope(Scope::CatalogRead)),
    ("/graticule.v1.CatalogService/AddDocuments", Needs::Scope(Scope::CatalogWrite)),
    ("/graticule.v1.CatalogService/Remove", Needs::Scope(Scope::CatalogWrite)),
    // It opens every file of a product.
    ("/graticule.v1.CatalogService/Check", Needs::Scope(Scope::CatalogWrite)),
    ("/graticule.v1.FleetService/Register", Needs::Scope(Scope::Worker)),
    ("/graticule.v1.FleetService/Describe", Needs::Scope(Scope::Admin)),
    // Probes have no credentials, and learn only that there is a server.
    ("/grpc.health.v1.Health/", Needs::Nothing),
    ("/grpc.reflection.v1.ServerReflection/", Needs::Anybody),
];

/// What the call at a path needs. What is not in the table is the administrator's: a service that
/// somebody adds and forgets here is closed, not open.
pub fn needs(path: &str) -> Needs {
    let is_meant = |name: &str| if name.ends_with('/') { path.starts_with(name) } else { path == name };
    let found = CALLS.iter().find(|(name, _)| is_meant(name));
    found.map_or(Needs::Scope(Scope::Admin), |(_, needs)| *needs)
}

/// Whether the call at a path counts against its tenant's quota: a worker's announcement lasts as long
/// as the worker, and probes are nobody's.
pub fn is_counted(path: &str) -> bool {
    !matches!(needs(path), Needs::Nothing | Needs::Scope(Scope::Worker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use graticule_common::proto::v1::{
        catalog_service_server, compute_service_server, fleet_service_server, worker_service_server,
    };

    #[test]
    fn only_calls_that_exist_are_in_the_table() {
        let services = [
            catalog_service_server::SERVICE_NAME,
            compute_service_server::SERVICE_NAME,
            fleet_service_server::SERVICE_NAME,
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
        ];
        for (path, _) in CALLS {
            assert!(services.iter().any(|service| path.starts_with(&format!("/{service}/"))), "{path}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_closed() {
        let worker = format!("/{}/Execute", worker_service_server::SERVICE_NAME);
        for path in [
            "",
            "/",
            "/graticule.v1.ComputeService/",
            "/graticule.v1.ComputeService/compute",
            "/graticule.v1.ComputeService/Compute/",
            "//graticule.v1.ComputeService/Compute",
            "/grpc.health.v1.Healthy/Check",
            &worker,
        ] {
            assert_eq!(needs(path), Needs::Scope(Scope::Admin), "{path}");
        }
        assert_eq!(needs("/grpc.health.v1.Health/Check"), Needs::Nothing);
        assert!(
            !is_counted("/graticule.v1.FleetService/Register") && !is_counted("/grpc.health.v1.Health/Watch")
        );
        assert!(is_counted("/graticule.v1.ComputeService/Compute"));
    }

    /// Every method of our services has a row, so that adding one without a
    /// decision fails here and not at somebody's deployment.
    #[test]
    fn every_call_has_a_row() {
        for row in methods() {
            if !row.contains("WorkerService") {
                assert!(CALLS.iter().any(|(path, _)| *path == row), "`{row}` has no row in the table");
            }
        }
        assert!(methods().len() >= 12);
    }

    /// Paths of all methods of the proto files' text.
    fn methods() -> Vec<String> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/graticule/v1");
        let mut methods = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let mut service = String::new();
            for line in text.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("service ") {
                    service = rest.split_whitespace().next().unwrap().to_owned();
                }
                if let Some(rest) = line.strip_prefix("rpc ") {
                    methods.push(format!("/graticule.v1.{service}/{}", rest.split('(').next().unwrap()));
                }
            }
        }
        methods
    }
}
