//! Every slice file that newcomers are given is in order.

use consort_scheduler::slice::file;

#[test]
fn each_slice_file_parses() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/slices");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let spec = file::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(Some(spec.name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
        read += 1;
    }
    assert!(read >= 2, "the folder has slice files");
}
