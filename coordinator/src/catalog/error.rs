//! What can go wrong between a catalog and its callers.

use std::io;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::transform::TransformError;

/// Why a catalog cannot answer, or why a STAC document cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// No product has this id.
    #[error(
        "unknown product `{product}`; the catalog has: {available}; register more with `graticule catalog add`"
    )]
    UnknownProduct {
        /// What was asked for.
        product: String,
        /// Ids of the products there are.
        available: String,
    },
    /// No image has this id.
    #[error(
        "unknown image `{id}`; `graticule catalog list` names the products, image ids are those of their STAC items"
    )]
    UnknownImage {
        /// What was asked for.
        id: String,
    },
    /// Several products have an image of this id.
    #[error("image `{id}` exists in several products ({products}); write `PRODUCT:{id}`")]
    AmbiguousImage {
        /// What was asked for.
        id: String,
        /// The products.
        products: String,
    },
    /// A search found more scenes than its caller can take.
    #[error(
        "the selection finds more than {limit} scenes of `{product}`; ask for a shorter time range or a smaller AOI"
    )]
    TooManyScenes {
        /// The product searched.
        product: String,
        /// The caller's `scenes_max`.
        limit: usize,
    },

    /// The data directory cannot be used.
    #[error("cannot use the data directory `{path}`: {source}; name another with `--data`")]
    DataDir {
        /// The directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The store is of another version of this engine, or no store at all.
    #[error(
        "`{path}` has layout {found} of the catalog, this engine reads layout {known}; name another directory with `--data` and register the imagery there"
    )]
    Layout {
        /// The store.
        path: String,
        /// Layout it has.
        found: i64,
        /// Layout this engine writes.
        known: i64,
    },
    /// The store does not do what it should.
    #[error("the catalog `{path}` failed: {source}")]
    Store {
        /// The store.
        path: String,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A row of the store does not fit its document.
    #[error(
        "the catalog's record of `{item}` is damaged ({problem}); register it again with `graticule catalog add`"
    )]
    Record {
        /// The item, or the product.
        item: String,
        /// What does not fit.
        problem: String,
    },
    /// A task of the catalog ended early.
    #[error("the catalog's task ended early: {reason}")]
    Task {
        /// What the runtime said.
        reason: String,
    },

    /// There is no document at the path that was given.
    #[error("there is no STAC catalog, collection or item at `{path}`: {reason}")]
    NoDocument {
        /// The path.
        path: String,
        /// What is there instead.
        reason: String,
    },
    /// A document cannot be read.
    #[error("cannot read `{file}`: {source}")]
    Read {
        /// The document.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A document is larger than any STAC document.
    #[error("`{file}` is larger than {limit} bytes, the limit for one STAC document")]
    DocumentSize {
        /// The document.
        file: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A catalog holds more than one registration may.
    #[error(
        "`{file}` leads to more than {limit} {what}, the limit for one registration; register its parts one by one"
    )]
    Extent {
        /// Where the registration began.
        file: String,
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A document's text is not JSON.
    #[error("`{file}` is not JSON: {source}")]
    NotJson {
        /// The document.
        file: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A document is JSON but not STAC of a known kind.
    #[error("`{file}` is not a STAC catalog, collection or item: {reason}")]
    NotStac {
        /// The document.
        file: String,
        /// Why not.
        reason: String,
    },
    /// A member of a STAC document is missing or wrong.
    #[error("`{file}`: member `{member}` {problem}")]
    Member {
        /// The document.
        file: String,
        /// The member, as a JSON pointer.
        member: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A STAC document names a CRS that is none.
    #[error("`{file}`: member `{member}`: {source}")]
    Crs {
        /// The document.
        file: String,
        /// The member, as a JSON pointer.
        member: String,
        /// Why it is no CRS.
        source: TransformError,
    },
    /// An item that belongs to no collection has no product id.
    #[error(
        "item `{item}` in `{file}` names no collection, so it has no product id; set its member `collection`, or register the collection that links to it"
    )]
    NoCollection {
        /// The document.
        file: String,
        /// The item.
        item: String,
    },
    /// An item says that it belongs to another collection than the one that links to it.
    #[error(
        "item `{item}` in `{file}` belongs to collection `{claimed}`, but collection `{linked}` links to it"
    )]
    ForeignItem {
        /// The document.
        file: String,
        /// The item.
        item: String,
        /// Its member `collection`.
        claimed: String,
        /// The collection on the way to it.
        linked: String,
    },
    /// Two documents of one registration have the same id.
    #[error("{kind} `{id}` is defined twice, in `{first}` and in `{second}`; give each an id of its own")]
    Duplicate {
        /// `collection` or `item`.
        kind: &'static str,
        /// The id.
        id: String,
        /// The document met first.
        first: String,
        /// The document met later.
        second: String,
    },
    /// Two bands of an item would have one name.
    #[error(
        "item `{item}` in `{file}` has two bands named `{band}`; give its assets' bands names of their own"
    )]
    DuplicateBand {
        /// The document.
        file: String,
        /// The item.
        item: String,
        /// The name.
        band: String,
    },
    /// An item has nothing to compute on.
    #[error(
        "item `{item}` in `{file}` has no raster asset; assets count when their `type` is image/tiff or image/jp2, or their `roles` contain `data`"
    )]
    NoRaster {
        /// The document.
        file: String,
        /// The item.
        item: String,
    },
    /// A document leads to no item.
    #[error("`{file}` leads to no item on disk; only `child` and `item` links to files are followed")]
    NoItems {
        /// The document.
        file: String,
    },
    /// A link or an asset does not lead to a file.
    #[error("`{file}`: {what} leads to `{href}`, {problem}")]
    Href {
        /// The document.
        file: String,
        /// Which link or asset.
        what: String,
        /// The reference as written.
        href: String,
        /// Why it leads nowhere.
        problem: HrefProblem,
    },
}

/// Why a reference in a STAC document does not lead to a file on disk.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HrefProblem {
    /// It has a scheme other than `file`.
    #[error("which is not a file on disk; `{scheme}` is not supported yet, download it first")]
    Remote {
        /// The scheme.
        scheme: String,
    },
    /// It is not a plain path.
    #[error("which is not a plain path: {reason}")]
    NotAPath {
        /// What is in it.
        reason: &'static str,
    },
    /// The file does not exist or cannot be looked at.
    #[error("but there is no file `{path}`: {reason}")]
    Missing {
        /// Where it was looked for.
        path: String,
        /// What the system said.
        reason: String,
    },
}

impl Classify for CatalogError {
    fn class(&self) -> ErrorClass {
        match self {
            CatalogError::UnknownProduct { .. }
            | CatalogError::UnknownImage { .. }
            | CatalogError::NoDocument { .. } => ErrorClass::NotFound,
            CatalogError::AmbiguousImage { .. } => ErrorClass::InvalidRequest,
            CatalogError::TooManyScenes { .. }
            | CatalogError::DocumentSize { .. }
            | CatalogError::Extent { .. } => ErrorClass::LimitExceeded,
            CatalogError::Layout { .. } => ErrorClass::Unsupported,
            CatalogError::Store { source, .. } => store_class(source),
            CatalogError::Record { .. } | CatalogError::Task { .. } => ErrorClass::Internal,
            CatalogError::Read { .. } => ErrorClass::Source,
            CatalogError::DataDir { .. }
            | CatalogError::NotJson { .. }
            | CatalogError::NotStac { .. }
            | CatalogError::Member { .. }
            | CatalogError::Crs { .. }
            | CatalogError::NoCollection { .. }
            | CatalogError::ForeignItem { .. }
            | CatalogError::Duplicate { .. }
            | CatalogError::DuplicateBand { .. }
            | CatalogError::NoRaster { .. }
            | CatalogError::NoItems { .. } => ErrorClass::InvalidRequest,
            CatalogError::Href { problem, .. } => match problem {
                HrefProblem::Remote { .. } => ErrorClass::Unsupported,
                HrefProblem::NotAPath { .. } => ErrorClass::InvalidRequest,
                HrefProblem::Missing { .. } => ErrorClass::Source,
            },
        }
    }
}

fn store_class(error: &rusqlite::Error) -> ErrorClass {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorClass::Unavailable,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorClass::Source,
        _ => ErrorClass::Internal,
    }
}
