//! What the generator knows of a value, and the type rules as protocol.md has them.

use graticule_common::block::{ArrayShape, Kind};
use graticule_common::grid::Grid;

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Ty {
    pub kind: Kind,
    pub is_bool: bool,
    /// Names of the bands, where they are known.
    pub names: Option<Vec<String>>,
    /// Pixels of padding.
    pub pad: u32,
    /// Ids of the images of a stack, where they still have their metadata.
    pub ids: Option<Vec<&'static str>>,
}

impl Ty {
    pub fn number(is_bool: bool) -> Ty {
        Ty { kind: Kind::Number, is_bool, names: None, pad: 0, ids: None }
    }

    pub fn array(axes: &[u32], is_leading: bool, is_bool: bool) -> Option<Ty> {
        let kind = Kind::Array(ArrayShape::new(axes, is_leading)?);
        Some(Ty { kind, ..Ty::number(is_bool) })
    }

    /// The same without what an empty stack cannot have: an image whose metadata names bands and padding.
    fn checked(mut self) -> Ty {
        if self.kind.images() == Some(0) {
            (self.names, self.pad) = (None, 0);
        }
        self.names = self.names.filter(|names| Some(names.len() as u32) == self.kind.bands());
        let images = self.kind.images().map(|images| images as usize);
        self.ids = self.ids.filter(|ids| Some(ids.len()) == images);
        self
    }

    /// A raster with the padding of this one, of another kind, without image metadata.
    pub fn raster(&self, kind: Kind, is_bool: bool, names: Option<Vec<String>>) -> Ty {
        Ty { kind, is_bool, names, pad: self.pad, ids: None }.checked()
    }

    /// The same images with other bands.
    pub fn with_bands(&self, bands: u32, is_bool: bool, names: Option<Vec<String>>) -> Ty {
        let kind = match self.kind {
            Kind::Stack { images, .. } => Kind::Stack { images, bands },
            Kind::Mosaic { .. } | Kind::Array(_) | Kind::Number => Kind::Mosaic { bands },
        };
        Ty { kind, is_bool, names, pad: self.pad, ids: self.ids.clone() }.checked()
    }

    /// The same shape with other values.
    pub fn of_type(&self, is_bool: bool) -> Ty {
        Ty { is_bool, ..self.clone() }
    }

    /// Some of its images.
    pub fn with_images(&self, ids: Vec<&'static str>) -> Ty {
        let kind = Kind::Stack { images: ids.len() as u32, bands: self.bands() };
        Ty { kind, ids: Some(ids), ..self.clone() }.checked()
    }

    pub fn is_raster(&self) -> bool {
        self.kind.is_raster()
    }

    pub fn is_stack(&self) -> bool {
        self.kind.images().is_some()
    }

    pub fn bands(&self) -> u32 {
        self.kind.bands().unwrap_or(0)
    }

    /// Rows and columns of its padded grid.
    pub fn pixels(&self, grid: &Grid) -> (u32, u32) {
        let window = grid.window();
        (window.rows + 2 * self.pad, window.cols + 2 * self.pad)
    }

    /// The word for its kind in older spellings.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Stack { .. } => "ImageStack",
            Kind::Mosaic { .. } => "Mosaic",
            Kind::Array(_) | Kind::Number => "ndarray",
        }
    }
}

/// What an op makes of truth values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// They stay truth values when all operands are.
    Logical,
    /// Not all operands may be truth values.
    NotBool,
    /// The result is a number.
    Float,
    /// The result is a truth value.
    Compare,
    /// Truth values alone.
    OnlyBool,
}

/// Type of a combination; `None` where it has none. `joint` stands between the names of two bands.
pub fn combine(rule: Rule, joint: &str, a: &Ty, b: &Ty, grid: &Grid) -> Option<Ty> {
    let both = a.is_bool && b.is_bool;
    let is_constant = a.kind == Kind::Number && b.kind == Kind::Number;
    let is_bool = match rule {
        // Python's `True + True` is the number 2.
        Rule::Logical => both && !is_constant,
        Rule::NotBool if both && !is_constant => return None,
        Rule::NotBool | Rule::Float => false,
        Rule::Compare => true,
        Rule::OnlyBool if both => true,
        Rule::OnlyBool => return None,
    };
    let pad = match (a.pad, b.pad) {
        (a, b) if a != 0 && b != 0 && a != b => return None,
        (a, b) => a.max(b),
    };
    let names = match (&a.names, &b.names) {
        (Some(a), Some(b)) if a == b => Some(a.clone()),
        (Some(a), Some(b)) if a.len() == b.len() && a.len() > 1 => {
            Some(a.iter().zip(b).map(|(a, b)| format!("{a}_{joint}_{b}")).collect())
        }
        (Some(a), Some(b)) if a.len() == 1 => Some(b.clone()),
        (Some(a), _) => Some(a.clone()),
        (None, b) => b.clone(),
    };
    let kind = meet(a, b, grid)?;
    let ids = [a, b].into_iter().find(|ty| ty.is_stack() && ty.kind.images() == kind.images());
    let ids = ids.and_then(|ty| ty.ids.clone());
    Some(Ty { kind, is_bool, names, pad, ids }.checked())
}

/// Kind of a combination, arrays laid out.
pub fn meet(a: &Ty, b: &Ty, grid: &Grid) -> Option<Kind> {
    let window = grid.window();
    let pad = a.pad.max(b.pad);
    let pixels = (window.rows + 2 * pad, window.cols + 2 * pad);
    match (a.kind, b.kind) {
        (Kind::Array(a), Kind::Array(b)) if a.axes() == b.axes() => {
            ArrayShape::new(a.axes(), a.is_leading() || b.is_leading()).map(Kind::Array)
        }
        (Kind::Array(_), Kind::Array(_)) => None,
        (Kind::Array(array), raster) | (raster, Kind::Array(array)) if raster.is_raster() => {
            broadcast(lay_out(array, raster, pixels)?, raster)
        }
        (a, b) => broadcast(a, b),
    }
}

/// What an array is on the axes of a raster: rules 3 to 5 of protocol.md section 4.
fn lay_out(array: ArrayShape, raster: Kind, pixels: (u32, u32)) -> Option<Kind> {
    let axes = array.axes();
    let leading = raster.images().or(raster.bands());
    if array.is_leading() {
        return Some(match *axes {
            [bands] => Kind::Mosaic { bands },
            [images, bands] => Kind::Stack { images, bands },
            _ => return None,
        });
    }
    if let [len] = *axes
        && Some(len) == leading
    {
        return Some(match raster {
            Kind::Stack { .. } => Kind::Stack { images: len, bands: 1 },
            _ => Kind::Mosaic { bands: len },
        });
    }
    let mut dims = [1; 4];
    dims[4 - axes.len()..].copy_from_slice(axes);
    let [images, bands, rows, cols] = dims;
    let fits = (rows == 1 || rows == pixels.0) && (cols == 1 || cols == pixels.1);
    fits.then_some(if axes.len() == 4 { Kind::Stack { images, bands } } else { Kind::Mosaic { bands } })
}

/// Kind of a combination of rasters and numbers.
pub fn broadcast(a: Kind, b: Kind) -> Option<Kind> {
    let (Some(a_bands), Some(b_bands)) = (a.bands(), b.bands()) else {
        return Some(if a == Kind::Number { b } else { a });
    };
    let common = |a: u32, b: u32| if a == b || b == 1 { Some(a) } else { (a == 1).then_some(b) };
    let bands = common(a_bands, b_bands)?;
    Some(match (a.images(), b.images()) {
        (None, None) => Kind::Mosaic { bands },
        (Some(images), None) | (None, Some(images)) => Kind::Stack { images, bands },
        (Some(a), Some(b)) => Kind::Stack { images: common(a, b)?, bands },
    })
}
