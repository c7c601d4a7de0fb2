use super::super::{Class, Matches};
use super::*;

fn mosaic(bands: u32, shape: (u32, u32), values: Vec<f32>, valid: Vec<u8>) -> Block {
    Block::new(Kind::Mosaic { bands }, shape, Samples::F32(values), valid)
}

fn rgba(picture: Picture) -> Vec<[u8; 4]> {
    let bytes = picture.png().unwrap();
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::ALPHA);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.color_type, info.height), (png::ColorType::Rgba, picture.rows));
    let decoded = pixels[..info.buffer_size()].to_vec();
    assert_eq!(decoded, picture.pixels.into_rgba(), "what is encoded is what was painted");
    decoded.as_chunks::<4>().0.to_vec()
}

fn opaque([red, green, blue]: [u8; 3]) -> [u8; 4] {
    [red, green, blue, 255]
}

fn stretched_to(range: (f64, f64)) -> TileStyle {
    TileStyle { stretch: vec![Some(range); 3], ..TileStyle::default() }
}

#[test]
fn one_band_has_the_colours_of_its_map() {
    let values = vec![0.0, 255.0, 127.4, 127.6, -9.0, 999.0, f32::NAN, 5.0];
    let block = mosaic(1, (2, 4), values, vec![1, 1, 1, 1, 1, 1, 1, 0]);
    let map = Colormap::from_name("RdYlGn_r").unwrap();
    let style = TileStyle { colours: Colours::Map(map), ..stretched_to((0.0, 255.0)) };
    let colour = |at: usize| opaque(map.colours()[at]);
    let expected =
        [colour(0), colour(255), colour(127), colour(128), colour(0), colour(255), TRANSPARENT, TRANSPARENT];
    let picture = paint(&block, &style, None).unwrap();
    assert!(matches!(picture.pixels, Pixels::Indexed { .. }));
    assert_eq!(rgba(picture), expected);
    // The other way round.
    let style = TileStyle { stretch: vec![Some((255.0, 0.0))], ..style };
    assert_eq!(rgba(paint(&block, &style, None).unwrap())[0], colour(255));
}

#[test]
fn a_palette_has_room_for_what_has_no_value() {
    // All 256 shades, and pixels without a value beside them.
    let values: Vec<f32> = (0..256).map(|value| value as f32).chain([0.0; 64]).collect();
    let valid: Vec<u8> = [1; 256].into_iter().chain([0; 64]).collect();
    let block = mosaic(1, (1, 320), values, valid);
    for (name, checkerboard) in [("viridis", false), ("viridis", true), ("gray", true), ("prism", true)] {
        let map = Colormap::from_name(name).unwrap();
        let style = TileStyle { colours: Colours::Map(map), checkerboard, ..stretched_to((0.0, 255.0)) };
        let picture = paint(&block, &style, None).unwrap();
        assert!(matches!(picture.pixels, Pixels::Indexed { .. }));
        let pixels = rgba(picture);
        let differing = (0..256).filter(|at| pixels[*at] != opaque(map.colours()[*at])).count();
        assert!(differing <= if checkerboard { 2 } else { 1 }, "{name}: {differing}");
        for (at, (pixel, colour)) in pixels.iter().zip(map.colours()).enumerate() {
            let off: u32 = pixel.iter().zip(opaque(*colour)).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
            assert!(off <= 6, "{name}: shade {at} is off by {off}");
        }
        let hidden: Vec<[u8; 4]> = pixels[256..].to_vec();
        match checkerboard {
            true => assert!(CHECKERS.iter().all(|colour| hidden.contains(colour))),
            false => assert!(hidden.iter().all(|pixel| *pixel == TRANSPARENT)),
        }
    }
}

#[test]
fn without_a_stretch_the_tile_has_its_own() {
    let block = mosaic(1, (1, 5), vec![10.0, 20.0, 30.0, f32::INFINITY, -9.0], vec![1, 1, 1, 1, 0]);
    let map = Colormap::default().colours();
    let colours = [opaque(map[0]), opaque(map[128]), opaque(map[255]), opaque(map[255]), TRANSPARENT];
    assert_eq!(rgba(paint(&block, &TileStyle::default(), None).unwrap()), colours);
    let even = mosaic(1, (1, 2), vec![5.0; 2], vec![1; 2]);
    assert_eq!(rgba(paint(&even, &TileStyle::default(), None).unwrap()), [opaque(map[128]); 2]);
    // Band by band: the first is given, the others are not.
    let three = mosaic(3, (1, 2), vec![0.0, 1.0, 5.0, 7.0, -1.0, 1.0], vec![1; 6]);
    let style = TileStyle { stretch: vec![Some((0.0, 2.0))], ..TileStyle::default() };
    assert_eq!(rgba(paint(&three, &style, None).unwrap()), [[0, 0, 0, 255], [128, 255, 255, 255]]);
}

#[test]
fn three_bands_are_red_green_blue_where_all_have_a_value() {
    let values = vec![0.0, 10.0, 5.0, 0.0, 10.0, 5.0, 10.0, 10.0, 5.0];
    let block = mosaic(3, (1, 3), values.clone(), vec![1, 1, 1, 1, 1, 1, 1, 1, 0]);
    let picture = paint(&block, &stretched_to((0.0, 10.0)), None).unwrap();
    assert_eq!(rgba(picture), [[0, 0, 255, 255], [255, 255, 255, 255], TRANSPARENT]);
    let whole = paint(&mosaic(3, (1, 3), values, vec![1; 9]), &stretched_to((0.0, 10.0)), None).unwrap();
    assert!(matches!(whole.pixels, Pixels::Rgb(_)));
    let checkered = TileStyle { checkerboard: true, ..stretched_to((0.0, 10.0)) };
    assert_eq!(rgba(paint(&block, &checkered, None).unwrap())[2], CHECKERS[0]);
}

#[test]
fn squares_go_on_in_the_neighbouring_tile() {
    let empty = Block::invalid(Kind::Mosaic { bands: 1 }, graticule_common::block::DType::F32, (256, 256));
    let style = TileStyle { checkerboard: true, ..TileStyle::default() };
    let pixels = rgba(paint(&empty, &style, None).unwrap());
    let at = |row: usize, col: usize| pixels[row * 256 + col];
    assert_eq!(
        (at(0, 0), at(0, 7), at(0, 8), at(8, 8)),
        (CHECKERS[0], CHECKERS[0], CHECKERS[1], CHECKERS[0])
    );
    assert_eq!(at(0, 255), CHECKERS[1], "the next tile begins with the other colour");
    let blank = rgba(paint(&empty, &TileStyle::default(), None).unwrap());
    assert!(blank.iter().all(|pixel| *pixel == TRANSPARENT));
}

#[test]
fn classes_have_their_colours_and_nothing_else_is_seen() {
    let class = |value: f32, colour| Class { matches: Matches::Value(value), colour, name: String::new() };
    let classes = Classes::new(vec![class(4.0, [1, 2, 3]), class(1.0, [9, 8, 7])]).unwrap();
    let style = TileStyle { colours: Colours::Classes(Arc::new(classes)), ..TileStyle::default() };
    let block = mosaic(1, (1, 5), vec![1.0, 4.0, 4.5, 4.0, f32::NAN], vec![1, 1, 1, 0, 1]);
    let expected = [[9, 8, 7, 255], [1, 2, 3, 255], TRANSPARENT, TRANSPARENT, TRANSPARENT];
    assert_eq!(rgba(paint(&block, &style, None).unwrap()), expected);
    // As many as there may be: more colours than a palette has.
    let many = (0..256).map(|at| class(at as f32, [at as u8, 0, 1])).collect();
    let style = TileStyle { colours: Colours::Classes(Arc::new(Classes::new(many).unwrap())), ..style };
    let block = mosaic(1, (1, 3), vec![0.0, 255.0, 300.0], vec![1; 3]);
    assert_eq!(rgba(paint(&block, &style, None).unwrap()), [[0, 0, 1, 255], [255, 0, 1, 255], TRANSPARENT]);
}

#[test]
fn truth_values_are_the_ends_of_the_map() {
    let block = Block::new(Kind::Mosaic { bands: 1 }, (1, 3), Samples::Bool(vec![0, 1, 1]), vec![1, 1, 0]);
    let map = Colormap::default().colours();
    let expected = [opaque(map[0]), opaque(map[255]), TRANSPARENT];
    assert_eq!(rgba(paint(&block, &TileStyle::default(), None).unwrap()), expected);
    let all_true = Block::new(Kind::Mosaic { bands: 1 }, (1, 1), Samples::Bool(vec![1]), vec![1]);
    assert_eq!(rgba(paint(&all_true, &TileStyle::default(), None).unwrap()), [opaque(map[255])]);
}

#[test]
fn opacity_is_another_band() {
    let block = mosaic(3, (1, 4), vec![1.0; 12], vec![1; 12]);
    let opacity = mosaic(1, (1, 4), vec![0.0, 0.5, 7.0, 1.0], vec![1, 1, 1, 0]);
    let pixels = rgba(paint(&block, &stretched_to((0.0, 1.0)), Some(&opacity)).unwrap());
    assert_eq!(pixels, [TRANSPARENT, [255, 255, 255, 128], [255; 4], TRANSPARENT]);
    for wrong in [mosaic(3, (1, 4), vec![1.0; 12], vec![1; 12]), mosaic(1, (1, 1), vec![1.0], vec![1])] {
        let error = paint(&block, &TileStyle::default(), Some(&wrong)).unwrap_err();
        assert!(error.to_string().contains("one band"), "{error}");
    }
}

#[test]
fn jpegs_are_on_white() {
    let block = mosaic(3, (16, 16), vec![0.0; 768], vec![0; 768]);
    let bytes = paint(&block, &TileStyle::default(), None).unwrap().jpeg().unwrap();
    assert!(bytes.starts_with(&[0xff, 0xd8]) && bytes.ends_with(&[0xff, 0xd9]));
}

#[test]
fn what_is_not_a_picture_says_what_to_do() {
    let block = |kind: Kind| Block::invalid(kind, graticule_common::block::DType::F32, (2, 2));
    let error = |kind: Kind| paint(&block(kind), &TileStyle::default(), None).unwrap_err().to_string();
    assert!(error(Kind::Stack { images: 2, bands: 1 }).contains("reduce it over images"));
    assert!(error(Kind::Mosaic { bands: 2 }).contains("pick_bands"));
}
