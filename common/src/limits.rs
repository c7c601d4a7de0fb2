//! Every bound on what one request may ask for. Nothing in the engine is unbounded; each bound has
//! its name here or in the configuration of the process that enforces it.

/// Bands of one value: a graft of forty lines that joins a raster with itself must not have a billion.
pub const BANDS_MAX: u32 = 1024;

/// Values of an array that is no raster: a constant of a graft, or a reduction over pixels.
pub const ARRAY_VALUES_MAX: u64 = 1 << 18;

/// Pixels of padding that a source may ask for.
pub const PAD_MAX: u32 = 1024;

/// Rows or columns of the window that an op over neighbourhoods may look at: each pixel of a result
/// takes time for every pixel of it.
pub const FOCAL_SIDE_MAX: u32 = 101;

/// Bytes of the names of one value's bands: combinations of bands join names.
pub const BAND_NAMES_BYTES_MAX: usize = 64 << 10;

/// Steps of all functions of properties of a graft, for all images that they are asked about; conditions
/// count by their length. Ten million take seconds.
pub const PROPERTY_STEPS_MAX: u64 = 10_000_000;

/// Stored pixels of one band that a read holds at once, in bytes with their mask. What needs more is read
/// in parts.
pub const READ_BLOCK_BYTES_MAX: u64 = 64 << 20;

/// Bounds on grafts, plans, grids and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of a graft's JSON text, in bytes.
    pub graft_bytes: usize,
    /// Nesting of JSON arrays and objects in a graft.
    pub json_depth: usize,
    /// Definitions in a graft, nested functions included.
    pub graft_nodes: usize,
    /// Arguments of one application.
    pub fan_in: usize,
    /// Length of one JSON string, in bytes. Arrays travel in strings, hence the size.
    pub string_bytes: usize,
    /// Evaluations while names are resolved: what a graft may unfold into.
    pub expansion_steps: usize,
    /// Graft functions applied inside one another.
    pub call_depth: usize,
    /// Scenes that one selection may find.
    pub scenes: usize,
    /// Scenes that one selection may find for a picture, which shows some of them.
    pub display_scenes: usize,
    /// Pixels of the output times its images and bands.
    pub output_samples: u64,
    /// Rows or columns of a grid.
    pub grid_side: u32,
    /// Vertices of an AOI's outline.
    pub outline_vertices: usize,
    /// Memory that one tile may take, in bytes: the planner cuts tiles until they fit.
    pub tile_peak_bytes: u64,
    /// Tiles of one interactive request.
    pub tiles: u64,
    /// Stages of reductions over pixels that need one another.
    pub stages: usize,
    /// Planes of what is reduced over pixels, times the stage's tiles, times its rounds: what a number
    /// may cost.
    pub stage_planes: u64,
    /// Bytes of the partials of one tile, which the coordinator holds for every tile in flight.
    pub partial_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            graft_bytes: 4 << 20,
            json_depth: 256,
            graft_nodes: 10_000,
            fan_in: 1_000,
            string_bytes: 3 << 20,
            expansion_steps: 100_000,
            call_depth: 256,
            scenes: 2_000,
            display_scenes: 50_000,
            output_samples: 64 << 20,
            grid_side: 1 << 20,
            outline_vertices: 50_000,
            tile_peak_bytes: 512 << 20,
            tiles: 100_000,
            stages: 16,
            stage_planes: 16 << 20,
            partial_bytes: 64 << 20,
        }
    }
}
