//! What holds for every file of the catalogue, and for the names that find them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::hardware::{Kind, Topology, facts};

fn devices() -> &'static [Hardware] {
    let devices = catalog().unwrap();
    assert!(devices.len() >= 60, "the catalogue must not be empty: {}", devices.len());
    devices
}

fn resolved(name: &str) -> String {
    hardware(name).unwrap_or_else(|error| panic!("{error}; {}", error.hint())).item.name
}

fn peak(peaks: &[(Format, Fact)], format: Format) -> Option<f64> {
    peaks.iter().find(|(known, _)| *known == format).and_then(|(_, fact)| fact.value)
}

#[test]
fn every_file_of_the_data_directory_is_embedded() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/hardware");
    let mut files: Vec<String> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| file.strip_suffix(".toml").map(str::to_string))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no device file in {}", directory.display());
    assert_eq!(files, hardware_names().collect::<Vec<_>>());
}

#[test]
fn a_file_is_called_as_its_device() {
    for (device, file) in devices().iter().zip(hardware_names()) {
        assert_eq!(device.name, file);
    }
}

#[test]
fn every_value_has_a_source_of_its_own() {
    for device in devices() {
        let table = facts(device);
        let (Some(Column::Str(fields)), Some(Column::OptStr(units)), Some(Column::Str(sources))) =
            (table.column("field"), table.column("unit"), table.column("source"))
        else {
            panic!("facts() has other columns")
        };
        let measured = fields
            .iter()
            .zip(units)
            .zip(sources)
            .filter(|((field, unit), _)| unit.is_some() && !field.ends_with(".domain"));
        for ((field, _), source) in measured {
            assert!(source.len() > 3 && !source.ends_with(".toml"), "{}: {field} has no source", device.name);
        }
    }
}

#[test]
fn no_two_devices_answer_to_one_name() {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for device in devices() {
        for spelling in spellings(device) {
            let key = words(spelling).concat();
            assert!(!key.is_empty(), "{}: `{spelling}` says nothing", device.name);
            let owner = owners.insert(key, &device.name).unwrap_or(&device.name);
            assert_eq!(owner, device.name, "`{spelling}` names two devices");
        }
    }
    for (family, member) in FAMILIES {
        let owner = owners.get(&words(family).concat());
        assert!(owner.is_none(), "`{family}` is a device and a family");
        assert!(hardware_names().any(|name| name == member), "`{family}` has no `{member}`");
    }
}

#[test]
fn every_name_alias_and_title_finds_its_device() {
    for device in devices() {
        for spelling in spellings(device) {
            let found = hardware(spelling).unwrap();
            assert_eq!((found.item.name.as_str(), found.note), (device.name.as_str(), None));
        }
    }
}

#[test]
fn a_sparse_peak_is_never_below_the_dense_one_and_at_most_twice_it() {
    for device in devices() {
        for (format, sparse) in &device.tensor_sparse {
            let dense = peak(&device.tensor_dense, *format).unwrap();
            let ratio = sparse.value.unwrap() / dense;
            assert!((1.0..=2.03).contains(&ratio), "{}: {format} sparse is {ratio} × dense", device.name);
        }
    }
}

#[test]
fn a_narrower_float_is_never_slower_on_the_tensor_unit() {
    for device in devices() {
        let dense = |format| peak(&device.tensor_dense, format);
        let ladder = [Format::Fp32, Format::Tf32, Format::Bf16, Format::Fp8, Format::Fp6, Format::Fp4];
        let known: Vec<f64> = ladder.into_iter().filter_map(dense).collect();
        assert!(known.is_sorted(), "{}: {known:?}", device.name);
        if let (Some(int8), Some(int4)) = (dense(Format::Int8), dense(Format::Int4)) {
            assert!(int8 <= int4, "{}: int8 above int4", device.name);
        }
    }
}

#[test]
fn the_tensor_unit_is_not_slower_than_the_vector_unit() {
    for device in devices() {
        for (format, fact) in &device.tensor_dense {
            if let (Some(tensor), Some(vector)) = (fact.value, peak(&device.vector, *format)) {
                assert!(tensor >= vector, "{}: {format}", device.name);
            }
        }
    }
}

#[test]
fn figures_are_of_the_right_order_of_magnitude() {
    for device in devices() {
        let name = &device.name;
        let within = |what: &str, value: Option<f64>, low: f64, high: f64| {
            if let Some(value) = value {
                assert!((low..=high).contains(&value), "{name}: {what} is {value:e}");
            }
        };
        within("capacity", device.memory.capacity.value, 200e6, 1e12);
        within("bandwidth", device.memory.bandwidth.value, 50e9, 100e12);
        within("bf16", device.tensor_peak(Format::Bf16, false), 1e12, 5e15);
        within("fp4", device.tensor_peak(Format::Fp4, false), 1e12, 2e16);
        within("cores", device.cores.value, 1.0, 1024.0);
        within("clock", device.clock.value, 200e6, 6e9);
        within("l2", device.l2.capacity.value, 1e6, 1e9);
        within("on chip", device.on_chip.capacity.value, 32e3, 64e6);
        within("host link", device.host_link.bandwidth.value, 8e9, 1e12);
        within("scale-up", device.scale_up.bandwidth.value, 8e9, 1e12);
        within("scale-out", device.scale_out.bandwidth.value, 1e9, 2e11);
        within("tdp", device.tdp.value, 20.0, 1500.0);
        within("rent", device.price.value, 0.1, 20.0);
        let on_device = device.scale_up.bandwidth.value.unwrap_or(0.0);
        assert!(device.memory.bandwidth.value.unwrap() > on_device, "{name}: link above memory");
    }
}

#[test]
fn a_rent_says_that_it_is_indicative() {
    for device in devices().iter().filter(|device| device.price.value.is_some()) {
        assert!(device.price.source.contains("indicative"), "{}: {}", device.name, device.price.source);
    }
}

#[test]
fn a_link_has_a_domain_and_a_device_without_one_is_alone() {
    for device in devices() {
        let link = &device.scale_up;
        assert_eq!(link.bandwidth.value.is_some(), link.domain > 1, "{}", device.name);
        assert!(!link.in_network || link.topology == Topology::Switch, "{}", device.name);
    }
}

#[test]
fn the_catalogue_reaches_from_laptops_to_memory_that_computes() {
    for kind in [Kind::Gpu, Kind::Accelerator, Kind::Soc, Kind::Cpu, Kind::Pim] {
        assert!(devices().iter().filter(|device| device.kind == kind).count() >= 2, "{}", kind.name());
    }
}

#[test]
fn figures_of_the_h100_are_those_of_its_datasheet() {
    let h100 = hardware("h100-sxm").unwrap().item;
    assert_eq!(h100.tensor_peak(Format::Bf16, false), Some(989.5e12));
    assert_eq!(h100.tensor_peak(Format::Fp4, false), Some(1979e12));
    assert_eq!(h100.tensor_peak(Format::Fp8, true), Some(3958e12));
    assert_eq!(h100.memory.capacity.value, Some(81_559.0 * 1_048_576.0));
    assert_eq!(h100.memory.bandwidth.value, Some(3.35e12));
    assert_eq!(h100.scale_up.bandwidth.value, Some(450e9));
    assert!(h100.scale_up.in_network);
}

#[test]
fn formats_convert_up_as_each_generation_does() {
    let format_on = |device: &str, format| hardware(device).unwrap().item.multiply_format(format).unwrap();
    assert_eq!(format_on("a100", Format::Fp8), Format::Bf16);
    assert_eq!(format_on("v100", Format::Bf16), Format::Fp16);
    assert_eq!(format_on("t4", Format::Bf16), Format::Fp16);
    assert_eq!(format_on("h100", Format::Fp6), Format::Fp8);
    assert_eq!(format_on("h100", Format::Int4), Format::Int8);
    assert_eq!(format_on("b200", Format::Fp4), Format::Fp4);
    assert_eq!(format_on("m2-ultra", Format::Fp8), Format::Fp16);
}

#[test]
fn a_family_stands_for_its_usual_member_and_says_so() {
    for (family, member) in FAMILIES {
        let found = hardware(family).unwrap();
        assert_eq!(found.item.name, member);
        assert_eq!(found.note, Some(format!("`{family}` taken as `{member}`")));
    }
}

#[test]
fn names_that_drivers_and_other_tools_print_are_understood() {
    for (name, device) in [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("nvidia-h100-80gb-hbm3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb-sxm"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb-sxm"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb-pcie"),
        ("Tesla V100-SXM2-32GB", "v100-sxm"),
        ("Tesla T4", "t4"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA_A6000", "rtx-a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("AMD Instinct MI300X", "mi300x"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("TPU v5 lite", "tpu-v5e"),
        ("TPU v6 lite", "tpu-v6e"),
        ("Apple M4 Max", "m4-max"),
        ("nvidia_V100", "v100-sxm"),
        ("nvidia_A6000_Ada", "rtx-6000-ada"),
        ("nvidia_A100", "a100-80gb-sxm"),
        ("nvidia_A100_40G", "a100-40gb-sxm"),
        ("nvidia_A100_80G", "a100-80gb-sxm"),
        ("nvidia_A800_80G_SXM", "a800-80gb-sxm"),
        ("nvidia_A40", "a40"),
        ("nvidia_H100_SXM", "h100-sxm"),
        ("nvidia_H100_PCIe", "h100-pcie"),
        ("nvidia_L40", "l40"),
        ("intel_13900k", "core-i9-13900k"),
        ("a100_sxm", "a100-80gb-sxm"),
        ("rtx_pro_6000_server", "rtx-pro-6000-server"),
    ] {
        assert_eq!(resolved(name), device, "{name}");
    }
}

#[test]
fn an_unknown_device_names_the_nearest_three() {
    let error = hardware("NVIDIA H10").unwrap_err();
    assert_eq!(error.to_string(), "no hardware is called `NVIDIA H10`");
    assert!(error.hint().contains("h100-sxm"), "{}", error.hint());
    assert_eq!(error.hint().matches(", ").count(), 2, "{}", error.hint());
    for name in ["", "nvidia", "??"] {
        assert!(hardware(name).is_err(), "`{name}`");
    }
}

#[test]
fn the_table_has_a_row_a_device_and_nulls_where_nothing_is_known() {
    let table = hardware_table().unwrap();
    assert_eq!(table.len(), devices().len());
    let row = hardware_names().position(|name| name == "a100-80gb-sxm").unwrap();
    let value = |column: &str| match table.column(column) {
        Some(Column::OptF64(rows)) => rows[row],
        other => panic!("{column}: {other:?}"),
    };
    assert_eq!(value("memory_gib"), Some(80.0));
    assert_eq!(value("bf16_tflops"), Some(312.0));
    assert_eq!(value("fp8_tflops"), None);
    assert_eq!(value("scale_up_gb_s"), Some(300.0));
    assert_eq!(value("tdp_w"), Some(400.0));
}

proptest! {
    #[test]
    fn any_name_is_found_or_answered_with_three_nearest(name in any::<String>()) {
        if let Err(error) = hardware(&name) {
            prop_assert_eq!(error.hint().matches(", ").count(), 2);
        }
    }
}
