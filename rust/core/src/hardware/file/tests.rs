//! What a device file may say, and what is answered to one that is wrong.

use proptest::prelude::*;

use super::*;

const MINIMAL: &str = r#"
name = "My_GPU"
[tensor.dense]
bf16 = { value = 500, unit = "TFLOP/s" }
[memory.device]
capacity = { value = 48, unit = "GiB" }
bandwidth = { value = 1.2, unit = "TB/s" }
"#;

/// The text of the error, mistakes and hints, of a document.
fn refused(text: &str) -> String {
    let error = hardware_from_toml("my-gpu.toml", text).unwrap_err();
    match error.hint() {
        hint if hint.is_empty() => error.to_string(),
        hint => format!("{error}\nhint: {hint}"),
    }
}

/// The same, of the minimal file with more text after it.
fn refused_with(more: &str) -> String {
    refused(&format!("{MINIMAL}{more}"))
}

#[test]
fn a_minimal_file_is_enough_and_the_rest_is_unknown() {
    let device = hardware_from_toml("my-gpu.toml", MINIMAL).unwrap();
    assert_eq!(device.name, "my-gpu");
    assert_eq!(device.title, "my-gpu");
    assert_eq!(device.kind, Kind::Gpu);
    assert_eq!(device.tensor_peak(Format::Fp8, false), Some(500e12));
    assert_eq!(device.memory.capacity.value, Some(48.0 * 1_073_741_824.0));
    assert_eq!(device.tdp, Fact::default());
    assert_eq!((device.scale_up.domain, device.scale_up.bandwidth.value), (1, None));
}

#[test]
fn a_value_without_a_source_has_its_file_as_source() {
    let device = hardware_from_toml("my-gpu.toml", MINIMAL).unwrap();
    assert_eq!(device.memory.capacity.source, "my-gpu.toml");
}

#[test]
fn everything_a_file_can_say_is_read() {
    let text = r#"
        name = "full"
        title = "Full"
        vendor = "us"
        kind = "accelerator"
        architecture = "one"
        aliases = ["complete", "whole"]
        [tensor]
        dense = { fp8 = { value = 2, unit = "PFLOP/s" }, bf16 = { value = 1, unit = "PFLOP/s" } }
        sparse.bf16 = { value = 2, unit = "PFLOP/s" }
        [vector]
        fp32 = { value = 50_000, unit = "GFLOP/s" }
        [compute]
        cores = { value = 132, unit = "count" }
        clock = { value = 1.98, unit = "GHz" }
        [memory]
        device = { capacity = { value = 80, unit = "GB" }, bandwidth = { value = 3350, unit = "GB/s" } }
        l2.capacity = { value = 50, unit = "MiB" }
        on_chip.capacity = { value = 256, unit = "KiB" }
        host = { capacity = { value = 2, unit = "TB" }, bandwidth = { value = 400, unit = "GB/s" } }
        [link.host]
        name = "PCIe"
        bandwidth = { value = 64, unit = "GB/s" }
        topology = "pcie"
        [link.scale_up]
        bandwidth = { value = 450, unit = "GB/s" }
        latency = { value = 500, unit = "ns" }
        domain = 8
        topology = "mesh"
        in_network = true
        [link.scale_out]
        bandwidth = { value = 400, unit = "Gbit/s" }
        [power]
        tdp = { value = 0.7, unit = "kW" }
        idle = { unknown = true, source = "nobody measured it" }
        [price]
        rent = { value = 2.5, unit = "USD/h", source = "our contract" }
    "#;
    let device = hardware_from_toml("full.toml", text).unwrap();
    assert_eq!(device.kind, Kind::Accelerator);
    assert_eq!(device.aliases, ["complete", "whole"]);
    assert_eq!(device.tensor_dense[0].0, Format::Bf16, "widest first");
    assert_eq!(device.tensor_peak(Format::Bf16, true), Some(2e15));
    assert_eq!(device.vector_peak(Format::Fp32), 5e13);
    assert_eq!(device.clock.value, Some(1.98e9));
    assert_eq!(device.on_chip.capacity.value, Some(262_144.0));
    assert_eq!(device.host.capacity.value, Some(2e12));
    assert_eq!((device.host_link.domain, device.host_link.topology), (1, Topology::Pcie));
    assert_eq!(device.scale_up.latency.value.map(|s| (s * 1e12).round()), Some(500_000.0));
    assert_eq!((device.scale_up.domain, device.scale_up.topology), (8, Topology::Mesh));
    assert!(device.scale_up.in_network);
    assert_eq!((device.scale_out.bandwidth.value, device.scale_out.domain), (Some(5e10), u32::MAX));
    assert_eq!(device.tdp.value, Some(700.0));
    assert_eq!(device.idle, Fact { value: None, source: "nobody measured it".into() });
    assert_eq!(device.price.source, "our contract");
}

#[test]
fn a_vector_unit_alone_is_a_roof() {
    let text = MINIMAL.replace("[tensor.dense]\nbf16", "[vector]\nfp32");
    assert!(hardware_from_toml("cpu.toml", &text).is_ok());
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_paths() {
    let text = r#"
        name = "my-gpu"
        colour = "green"
        [tensor.dense]
        bf16 = { value = -3, unit = "TFLOP/s" }
        fp9 = { value = 3, unit = "TFLOP/s" }
        [memory.device]
        capacity = { value = 48, unit = "GiBs" }
    "#;
    let expected = "my-gpu.toml has 4 mistakes:
  my-gpu.toml: colour must be one of name, title, vendor, kind, architecture, aliases, tensor, vector, compute, memory, link, power, price: colour (did you mean `compute`?)
  my-gpu.toml: tensor.dense.fp9 must be one of fp64, fp32, tf32, bf16, fp16, fp8, fp6, fp4, int8, int4, int3, int2, int1: fp9 (did you mean `fp4`?)
  my-gpu.toml: tensor.dense.bf16.value must be a positive number: -3
  my-gpu.toml: memory.device.capacity.unit must be one of KiB, MiB, GiB, TiB, KB, MB, GB, TB: GiBs (did you mean `GiB`?)";
    assert_eq!(refused(text), expected);
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let error = refused("name = \"a\"\nkind gpu\n");
    assert!(error.starts_with("my-gpu.toml: line 2 must be TOML: "), "{error}");
}

#[test]
fn missing_keys_are_named() {
    let expected = "my-gpu.toml has 4 mistakes:
  my-gpu.toml: name must be given: missing
  my-gpu.toml: tensor.dense must have a known bf16 or fp16 peak, or [vector] a known fp32 peak: neither (add `bf16 = { value = ..., unit = \"TFLOP/s\", source = \"...\" }` under [tensor.dense])
  my-gpu.toml: memory.device.capacity must be given, a roofline needs it: missing
  my-gpu.toml: memory.device.bandwidth must be given, a roofline needs it: missing";
    assert_eq!(refused(""), expected);
}

#[test]
fn what_a_roofline_needs_cannot_be_unknown() {
    let text = MINIMAL.replace("{ value = 48, unit = \"GiB\" }", "{ unknown = true, source = \"secret\" }");
    assert_eq!(
        refused(&text),
        "my-gpu.toml: memory.device.capacity must be given, a roofline needs it: unknown"
    );
    let text = MINIMAL.replace("{ value = 500, unit = \"TFLOP/s\" }", "{ unknown = true }");
    assert!(refused(&text).contains("tensor.dense must have a known bf16 or fp16 peak"));
}

#[test]
fn a_value_has_a_unit_of_its_quantity() {
    assert_eq!(
        refused_with("[power]\ntdp = { value = 700, unit = \"GB\" }"),
        "my-gpu.toml: power.tdp.unit must be one of W, kW: GB"
    );
    for (unit, meant) in [("tb/s", "TB/s"), ("GBps", "GB/s"), ("gbit/s", "Gbit/s")] {
        let link = format!("[memory.l2]\nbandwidth = {{ value = 7, unit = \"{unit}\" }}");
        let hint = refused_with(&link).lines().nth(1).map(str::to_string);
        assert_eq!(hint, Some(format!("hint: did you mean `{meant}`?")));
    }
    assert_eq!(
        refused_with("[power]\ntdp = { value = 700 }"),
        "my-gpu.toml: power.tdp.unit must be one of W, kW: missing"
    );
}

#[test]
fn a_fact_has_a_value_or_is_unknown() {
    assert_eq!(
        refused_with("[power]\ntdp = { unit = \"W\" }"),
        "my-gpu.toml: power.tdp.value must be given: missing\nhint: write `unknown = true` where nobody published it"
    );
    assert_eq!(
        refused_with("[power]\ntdp = { unknown = true, value = 3, unit = \"W\" }"),
        "my-gpu.toml: power.tdp.value must not be given where `unknown = true`: 3"
    );
    assert_eq!(
        refused_with("[power]\ntdp = { unknown = 1 }\nidle = { value = 1, unit = \"W\" }").lines().nth(1),
        Some("  my-gpu.toml: power.tdp.unknown must be true or false: 1")
    );
}

#[test]
fn a_value_is_a_finite_positive_number() {
    for value in ["0", "-1.5", "inf", "nan", "\"700\"", "true"] {
        let error = refused_with(&format!("[power]\ntdp = {{ value = {value}, unit = \"W\" }}"));
        assert_eq!(error, format!("my-gpu.toml: power.tdp.value must be a positive number: {value}"));
    }
}

#[test]
fn a_fact_is_a_table_with_known_keys() {
    assert_eq!(
        refused_with("[power]\ntdp = 700"),
        "my-gpu.toml: power.tdp must be a table: 700\nhint: write it as `{ value = ..., unit = \"...\", source = \"...\" }`"
    );
    assert_eq!(
        refused_with("[power]\ntdp = { value = 700, unit = \"W\", sauce = \"x\" }"),
        "my-gpu.toml: power.tdp.sauce must be one of value, unit, source, unknown: sauce\nhint: did you mean `source`?"
    );
}

#[test]
fn words_numbers_and_lists_are_checked() {
    for (line, expected) in [
        ("kind = \"toaster\"", "kind must be one of gpu, accelerator, soc, cpu, pim: toaster"),
        ("title = 3", "title must be a text that is not empty: 3"),
        ("vendor = \"\"", "vendor must be a text that is not empty: \"\""),
        ("aliases = \"x\"", "aliases must be a list of texts: \"x\""),
        ("aliases = [1]", "aliases must be a list of texts: [1]"),
        ("power = 3", "power must be a table: 3"),
    ] {
        assert_eq!(refused(&format!("{line}\n{MINIMAL}")), format!("my-gpu.toml: {expected}"));
    }
}

#[test]
fn a_scale_up_link_says_how_far_it_reaches() {
    let link = |more: &str| {
        refused_with(&format!("[link.scale_up]\nbandwidth = {{ value = 1, unit = \"GB/s\" }}\n{more}"))
    };
    assert_eq!(link(""), "my-gpu.toml: link.scale_up.domain must be given: missing");
    assert_eq!(
        link("domain = 0"),
        "my-gpu.toml: link.scale_up.domain must be a whole number of at least 1: 0"
    );
    assert_eq!(
        link("domain = 8\ntopology = \"star\""),
        "my-gpu.toml: link.scale_up.topology must be one of switch, mesh, ring, torus, pcie: star"
    );
    assert_eq!(
        link("domain = 8\nin_network = \"no\""),
        "my-gpu.toml: link.scale_up.in_network must be true or false: \"no\""
    );
    assert_eq!(
        refused_with("[link.host]\nname = \"x\""),
        "my-gpu.toml: link.host.bandwidth must be given: missing"
    );
}

#[test]
fn a_sparse_peak_below_the_dense_one_is_refused() {
    assert_eq!(
        refused_with("[tensor.sparse]\nbf16 = { value = 250, unit = \"TFLOP/s\" }"),
        "my-gpu.toml: tensor.sparse.bf16.value must be at least the dense peak, 500 TFLOP/s: 250 TFLOP/s\nhint: datasheets often print the sparse figure: are the two swapped?"
    );
}

#[test]
fn every_kind_and_topology_is_written_as_it_is_read() {
    for (name, kind) in KINDS {
        assert_eq!(kind.name(), name);
    }
    for (name, topology) in TOPOLOGIES {
        assert_eq!(topology.name(), name);
    }
}

proptest! {
    #[test]
    fn no_text_is_answered_with_a_panic(text in any::<String>(), cut in 0..MINIMAL.len(), junk in ".{0,8}") {
        let _ = hardware_from_toml("any.toml", &text);
        let (head, tail) = MINIMAL.split_at(cut);
        let _ = hardware_from_toml("any.toml", &format!("{head}{junk}{tail}"));
    }

    #[test]
    fn a_value_is_the_same_in_every_unit(value in 0.001..1e6f64, index in 0usize..8) {
        let (unit, size) = Quantity::Capacity.units()[index];
        let capacity = format!("{{ value = {value:?}, unit = \"{unit}\" }}");
        let text = MINIMAL.replace("{ value = 48, unit = \"GiB\" }", &capacity);
        let device = hardware_from_toml("any.toml", &text).unwrap();
        prop_assert_eq!(device.memory.capacity.value, Some(value * size));
    }
}
