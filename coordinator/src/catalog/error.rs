//! What can go wrong between a catalog and its callers.

use std::io;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::transform::TransformError;

use crate::objects::ObjectError;

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
    /// The catalog cannot be written.
    #[error("cannot write the catalog at `{path}`: {source}; what was registered before is unchanged")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another registration takes too long.
    #[error("the catalog is being changed by {holder} for more than {seconds} s; wait for it, or end it")]
    Locked {
        /// Who holds the lock.
        holder: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Others register all the time.
    #[error(
        "others changed the catalog each of the {attempts} times that this registration was ready; nothing is registered, try again"
    )]
    Contended {
        /// How often it was tried.
        attempts: u32,
    },
    /// A segment of the catalog is gone.
    #[error(
        "segment {number} of the catalog in `{store}` is missing; bring it back from a copy, or go on without what it had by putting an empty object `catalog/segments/{number:010}.ndjson` there"
    )]
    Gap {
        /// The store.
        store: String,
        /// The number of the segment.
        number: i64,
    },
    /// The object store failed.
    #[error("the catalog's store: {0}")]
    Objects(ObjectError),
    /// There is no such item in a product.
    #[error("product `{product}` has no item `{item}`; `graticule catalog search {product}` lists items")]
    UnknownItem {
        /// The product.
        product: String,
        /// What was asked for.
        item: String,
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
    /// Rasters of a folder cannot be registered.
    #[error("`{path}`: nothing is registered, for these files cannot be:{reasons}")]
    Folder {
        /// The folder.
        path: String,
        /// A line for each file.
        reasons: String,
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
    /// It has a scheme that nothing here reads.
    #[error("of the scheme `{scheme}`; local files, http, https, s3, gs, az and abfs are read")]
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
    /// It is a VRT, and nobody said that VRTs may be read.
    #[error("which is a VRT: it reads other files; `--allow-vrt` registers it")]
    Vrt,
    /// It is not in a folder that the operator opened.
    #[error("which is in none of the folders that documents sent to this coordinator may refer to")]
    Outside,
    /// The file does not exist or cannot be looked at.
    #[error("but there is no file `{path}`: {reason}")]
    Missing {
        /// Where it was looked for.
        path: String,
        /// What the system said.
        reason: String,
    },
}

impl CatalogError {
    /// The store's error as the catalog's. Not a `From`, which would leave `?` elsewhere undecided.
    pub(super) fn of_store(error: ObjectError) -> Self {
        match error {
            ObjectError::File { path, source } => CatalogError::Write { path, source },
            error => CatalogError::Objects(error),
        }
    }
}

impl Classify for CatalogError {
    fn class(&self) -> ErrorClass {
        match self {
            CatalogError::UnknownProduct { .. }
            | CatalogError::UnknownImage { .. }
            | CatalogError::UnknownItem { .. }
            | CatalogError::NoDocument { .. } => ErrorClass::NotFound,
            CatalogError::AmbiguousImage { .. } => ErrorClass::InvalidRequest,
            CatalogError::TooManyScenes { .. }
            | CatalogError::DocumentSize { .. }
            | CatalogError::Extent { .. } => ErrorClass::LimitExceeded,
            CatalogError::Store { source, .. } => store_class(source),
            CatalogError::Record { .. } | CatalogError::Task { .. } => ErrorClass::Internal,
            CatalogError::Read { .. } | CatalogError::Write { .. } => ErrorClass::Source,
            CatalogError::Locked { .. } | CatalogError::Contended { .. } => ErrorClass::Unavailable,
            CatalogError::Gap { .. } => ErrorClass::Source,
            CatalogError::Objects(error) => error.class(),
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
            | CatalogError::Folder { .. }
            | CatalogError::NoItems { .. } => ErrorClass::InvalidRequest,
            CatalogError::Href { problem, .. } => match problem {
                HrefProblem::Remote { .. } => ErrorClass::Unsupported,
                HrefProblem::NotAPath { .. } | HrefProblem::Vrt | HrefProblem::Outside => {
                    ErrorClass::InvalidRequest
                }
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
