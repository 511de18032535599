//! The devices that measurements name, with the datasheet facts the forms need.

use std::collections::HashMap;

use roofline_core::catalog;
use roofline_core::efficiency::form::Device;
use roofline_core::format::Format;
use roofline_core::hardware::Hardware;

/// A device with the facts of its datasheet.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The device.
    pub hardware: Hardware,
    /// What forms ask of it.
    pub device: Device,
    /// Bytes/s of its link to its neighbours, per direction.
    pub link: Option<f64>,
}

/// Devices by the words that name them; each is looked up once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Devices {
    list: Vec<Known>,
    places: HashMap<String, Option<usize>>,
}

impl Known {
    /// The facts of a device; `None` where its datasheet lacks the peak, bandwidth or core count every form needs.
    pub fn of(hardware: Hardware) -> Option<Known> {
        hardware.cores.value?;
        let peak16 = hardware.tensor_peak(Format::Bf16, false)?;
        let device = Device::of(&hardware, peak16, hardware.memory.bandwidth.value?);
        let link = hardware.scale_up.bandwidth.value;
        Some(Known { hardware, device, link })
    }

    /// Dense peak of a format, FLOP/s, in the format the device really multiplies in.
    pub fn peak(&self, format: Format) -> Option<f64> {
        self.hardware.tensor_peak(format, false)
    }
}

impl Devices {
    /// With one device that its own file describes; it answers to its name before the catalogue does.
    pub fn with(hardware: Hardware) -> Devices {
        let mut devices = Devices::default();
        let name = hardware.name.clone();
        if let Some(known) = Known::of(hardware) {
            devices.list.push(known);
            devices.places.insert(name, Some(0));
        }
        devices
    }

    /// The place of the device a word names, looked up in the catalogue; `None` where there is none.
    pub fn learn(&mut self, word: &str) -> Option<usize> {
        if let Some(place) = self.places.get(word) {
            return *place;
        }
        let found = catalog::hardware::hardware(word).ok().map(|found| found.item);
        let place = found.and_then(|hardware| {
            let known = self.list.iter().position(|known| known.hardware.name == hardware.name);
            known.or_else(|| {
                self.list.push(Known::of(hardware)?);
                Some(self.list.len() - 1)
            })
        });
        self.places.insert(word.to_string(), place);
        place
    }

    /// The device at a place.
    pub fn get(&self, place: usize) -> &Known {
        &self.list[place]
    }

    /// All of them.
    pub fn list(&self) -> &[Known] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_under_every_way_to_write_it() {
        let mut devices = Devices::default();
        let place = devices.learn("h100_sxm");
        assert_eq!((place, devices.learn("h100-sxm"), devices.learn("H100")), (Some(0), Some(0), Some(0)));
        assert_eq!(devices.get(0).hardware.name, "h100-sxm");
        assert_eq!((devices.learn("abacus"), devices.list().len()), (None, 1));
        assert_eq!(devices.learn("a100_sxm"), devices.learn("a100-80gb-sxm"));
    }
}
