"""What a device is made of: its parts, the sensors on them, and how each sensor answers to the plant's hidden state.

A device is described as an engineer would: subsystems (a drive, a hydraulic circuit, a cooling loop), each with a
few sensors that carry a unit in their name. A sensor is a level plus its answer to a few *factors*, the hidden
quantities that move the whole machine:

===========  =====================================================================================
``speed``    how fast it runs: about 0 when idle, about 1 in a run
``load``     how hard it works
``demand``   what the process asks of pumps and pressures
``heat``     load, remembered for most of an hour
``cooling``  what the cooling does about the heat
``ambient``  the room: a daily cycle and weather, about ±1
``mains``    the supply: a daily cycle and disturbances, about ±1
===========  =====================================================================================

Because every sensor hangs on the same few factors, sensors are correlated as in a real machine, and the relations
between them, not their levels, say whether the machine is well.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FACTORS = ("speed", "load", "demand", "heat", "cooling", "ambient", "mains")

FEWEST_SENSORS = 20
"""Below this a device would lose the sensors that its faults show in."""


@dataclass(frozen=True)
class Sensor:
    """One sensor of a part.

    ``level`` is its value while every factor is 0, ``swing`` its own unit of movement: couplings, noise and fault
    effects are multiples of it. ``couplings`` pairs a factor with its weight; ``step`` is the resolution of the
    instrument; ``lag`` minutes of first-order response; ``noise`` a share of the swing. ``rotating`` sensors are
    quiet while nothing turns. Values never leave ``low`` … ``high``.
    """

    name: str
    level: float
    swing: float
    couplings: tuple[tuple[str, float], ...]
    step: float = 0.01
    lag: float = 0.0
    noise: float = 0.1
    rotating: bool = False
    low: float = -np.inf
    high: float = np.inf


def _sensor(name: str, level: float, swing: float, text: str, **rest: float | bool) -> Sensor:
    """Read couplings written as ``"load 1 ambient .2"``."""
    words = text.split()
    pairs = tuple((words[i], float(words[i + 1])) for i in range(0, len(words), 2))
    return Sensor(name, level, swing, pairs, **rest)  # type: ignore[arg-type]


_PARTS: dict[str, tuple[Sensor, ...]] = {
    "drive": (
        _sensor("speed_rpm", 30, 1400, "speed 1 mains .01", step=1, noise=0.01, low=0),
        _sensor("torque_Nm", 4, 85, "load 1 speed .1", step=0.1, noise=0.04, low=0),
        _sensor("motor_current_A", 1.2, 21, "load .8 speed .2 mains -.05", noise=0.03, low=0),
        _sensor("power_kW", 0.2, 14, "load .85 speed .2", noise=0.03, low=0),
        _sensor("motor_temp_C", 24, 38, "heat 1 ambient .05 cooling -.1", step=0.1, lag=6, noise=0.01),
        _sensor("bearing_front_temp_C", 23, 26, "heat .7 speed .25 ambient .08", step=0.1, lag=4, noise=0.012),
        _sensor("bearing_rear_temp_C", 23, 22, "heat .75 speed .2 ambient .08", step=0.1, lag=5, noise=0.012),
        _sensor("vibration_x_mm_s", 0.25, 1.6, "speed .7 load .3", step=0.001, noise=0.07, rotating=True, low=0.01),
        _sensor("vibration_y_mm_s", 0.22, 1.3, "speed .6 load .4", step=0.001, noise=0.07, rotating=True, low=0.01),
        _sensor("vibration_z_mm_s", 0.15, 0.8, "speed .8 load .2", step=0.001, noise=0.08, rotating=True, low=0.01),
        _sensor("acoustic_dB", 44, 27, "speed .7 load .25", step=0.1, noise=0.03, rotating=True),
        _sensor("position_error_um", 1.5, 9, "load .6 heat .4", noise=0.08, rotating=True, low=0),
        _sensor("inverter_temp_C", 26, 21, "load .5 heat .4 ambient .15", step=0.1, lag=3, noise=0.015),
        _sensor("dc_link_V", 562, 9, "mains .6 load -.5", step=0.1, noise=0.06),
    ),
    "hydraulic": (
        _sensor("pressure_bar", 32, 120, "demand 1", step=0.1, noise=0.02, low=0),
        _sensor("flow_l_min", 2, 46, "demand .9 speed .1", noise=0.03, low=0),
        _sensor("valve_position_pct", 6, 62, "demand .95 mains .005", step=0.1, noise=0.02, low=0, high=100),
        _sensor("pump_current_A", 2.1, 11, "demand .9 heat -.06 mains -.05", noise=0.03, low=0),
        _sensor("oil_temp_C", 27, 24, "heat .9 demand .12 ambient .1", step=0.1, lag=8, noise=0.012),
        _sensor("filter_dp_bar", 0.12, 0.9, "demand 1 heat -.15", step=0.001, noise=0.03, low=0),
        _sensor("accumulator_bar", 88, 26, "demand .5 heat .2 ambient .1", step=0.1, lag=2, noise=0.03),
        _sensor("tank_level_pct", 78, 6, "heat .5 demand -.4", noise=0.05, low=0, high=100),
        _sensor("leak_flow_ml_min", 12, 18, "demand .6 heat .5", noise=0.06, low=0),
    ),
    "cooling": (
        _sensor("inlet_temp_C", 17, 3.2, "ambient .5 heat .5", noise=0.03, lag=3),
        _sensor("outlet_temp_C", 18, 9, "heat .9 cooling -.1 ambient .2", noise=0.015, lag=4),
        _sensor("flow_l_min", 3, 17, "cooling 1", noise=0.02, low=0),
        _sensor("pressure_bar", 1.1, 2.4, "cooling .9 mains .03", step=0.001, noise=0.03, low=0),
        _sensor("pump_current_A", 0.8, 3.5, "cooling .9 mains -.04", step=0.001, noise=0.03, low=0),
        _sensor("fan_speed_rpm", 420, 1900, "cooling .95 ambient .1", step=5, noise=0.02, low=0),
        _sensor("fan_current_A", 0.3, 1.7, "cooling .9 ambient .12", step=0.001, noise=0.03, low=0),
        _sensor("conductivity_uS_cm", 210, 24, "heat .5 ambient .4", step=0.1, lag=20, noise=0.04),
    ),
    "zone": (
        _sensor("temp_C", 24, 31, "heat .8 ambient .1", step=0.1, lag=7, noise=0.012),
        _sensor("heater_duty_pct", 14, 46, "load .5 demand .4 ambient -.08", step=0.1, noise=0.04, low=0, high=100),
        _sensor("heater_current_A", 0.9, 6.2, "load .5 demand .4 mains .05", noise=0.04, low=0),
    ),
    "vacuum": (
        _sensor("pressure_log_mbar", -6.2, 1.1, "demand .6 heat .2", step=0.001, noise=0.03),
        _sensor("pump_speed_Hz", 780, 120, "demand -.5 speed .6", step=1, noise=0.02, low=0),
        _sensor("pump_current_A", 1.1, 1.4, "demand .8 load .2", step=0.001, noise=0.03, low=0),
        _sensor("pump_temp_C", 27, 15, "heat .8 demand .15 ambient .1", step=0.1, lag=6, noise=0.012),
        _sensor("valve_position_pct", 8, 55, "demand .9", step=0.1, noise=0.02, low=0, high=100),
        _sensor("gas_flow_sccm", 0.4, 9, "demand .9 load .1", step=0.001, noise=0.03, low=0),
    ),
    "optics": (
        _sensor("laser_power_mW", 0.5, 82, "load .5 speed .5", noise=0.02, low=0),
        _sensor("laser_current_mA", 14, 190, "load .5 speed .5 heat .08", step=0.1, noise=0.02, low=0),
        _sensor("laser_temp_C", 24, 4.5, "heat .7 load .3 ambient .15", step=0.001, lag=3, noise=0.02),
        _sensor("detector_temp_C", -41, 2.2, "heat .5 ambient .3", step=0.001, lag=6, noise=0.03),
        _sensor("dark_counts_Hz", 48, 22, "heat .6 ambient .3", step=1, noise=0.1, low=0),
        _sensor("focus_drift_nm", 12, 160, "heat .7 ambient .3", step=0.1, lag=9, noise=0.03),
    ),
    "axis": (
        _sensor("position_error_nm", 4, 22, "load .6 speed .4", noise=0.08, rotating=True, low=0),
        _sensor("piezo_voltage_V", 31, 26, "load .6 heat .3", noise=0.03),
        _sensor("vibration_nm", 1.2, 6, "speed .7 load .3", step=0.001, noise=0.07, rotating=True, low=0.01),
        _sensor("motor_temp_C", 24, 9, "heat .8 ambient .15", step=0.01, lag=5, noise=0.015),
    ),
    "supply": (
        _sensor("mains_l1_V", 231, 3.1, "mains .9 load -.2", step=0.1, noise=0.06),
        _sensor("mains_l2_V", 230, 3.1, "mains .9 load -.2", step=0.1, noise=0.06),
        _sensor("mains_l3_V", 232, 3.1, "mains .9 load -.2", step=0.1, noise=0.06),
        _sensor("current_l1_A", 1.9, 17, "load .7 demand .25", noise=0.03, low=0),
        _sensor("current_l2_A", 1.8, 17, "load .7 demand .25", noise=0.03, low=0),
        _sensor("current_l3_A", 1.9, 17, "load .7 demand .25", noise=0.03, low=0),
        _sensor("rail_24_V", 24.1, 0.12, "mains .3 load -.5", step=0.001, noise=0.08),
        _sensor("cabinet_temp_C", 24, 12, "heat .7 ambient .25", step=0.1, lag=9, noise=0.012),
    ),
    "room": (
        _sensor("temp_C", 21.5, 1.4, "ambient 1 heat .2", noise=0.03, lag=10),
        _sensor("humidity_pct", 44, 5, "ambient -.8", step=0.1, noise=0.04, low=0, high=100),
        _sensor("air_pressure_hPa", 1008, 3, "ambient .3", step=0.1, noise=0.03),
    ),
}


@dataclass(frozen=True)
class Effect:
    """What a fault does to one sensor: ``amount`` swings at full size, and ``chatter`` swings of unrest around it.

    ``frozen`` sensors stick at the value they had when the fault began; ``lag`` is the minutes the sensor takes to
    follow. On a rotating sensor the effect needs a turning machine to show.
    """

    sensor: str
    amount: float
    chatter: float = 0.0
    lag: float = 0.0
    frozen: bool = False


@dataclass(frozen=True)
class FaultKind:
    """A way to fail. ``slow`` faults grow over ``hours``, sudden ones are there at once and last as long."""

    name: str
    slow: bool
    hours: tuple[float, float]
    effects: tuple[Effect, ...]


def _bearing(part: str) -> FaultKind:
    """Wear of a drive's front bearing: vibration first, then warmth, noise and current."""
    return FaultKind(
        f"{part}_bearing_wear",
        True,
        (6.0, 9.0),
        (
            Effect(f"{part}_vibration_x_mm_s", 2.4, chatter=0.8),
            Effect(f"{part}_vibration_y_mm_s", 2.0, chatter=0.7),
            Effect(f"{part}_bearing_front_temp_C", 1.5, lag=10),
            Effect(f"{part}_acoustic_dB", 0.7, chatter=0.1),
            Effect(f"{part}_motor_current_A", 0.35, chatter=0.05),
        ),
    )


def _valve(part: str) -> FaultKind:
    """A circuit's valve sticks: pressure and flow no longer follow the demand, the pump works against it."""
    return FaultKind(
        f"{part}_valve_stuck",
        False,
        (1.0, 2.0),
        (
            Effect(f"{part}_pressure_bar", 1.1, chatter=0.25),
            Effect(f"{part}_flow_l_min", -0.8, chatter=0.2),
            Effect(f"{part}_valve_position_pct", 0.0, frozen=True),
            Effect(f"{part}_pump_current_A", 0.9, chatter=0.2),
        ),
    )


def _filter(part: str) -> FaultKind:
    """A circuit's filter clogs over hours."""
    return FaultKind(
        f"{part}_filter_clogged",
        True,
        (5.0, 8.0),
        (
            Effect(f"{part}_filter_dp_bar", 2.6, chatter=0.15),
            Effect(f"{part}_flow_l_min", -0.6, chatter=0.1),
            Effect(f"{part}_pump_current_A", 0.7, chatter=0.1),
            Effect(f"{part}_oil_temp_C", 1.1, lag=15),
        ),
    )


def _fan(part: str) -> FaultKind:
    """The loop's fan dies: it stops at once, what it cooled warms up within minutes."""
    return FaultKind(
        f"{part}_fan_failed",
        False,
        (1.0, 1.8),
        (
            Effect(f"{part}_fan_speed_rpm", -1.3, lag=0.7),
            Effect(f"{part}_fan_current_A", -1.3, lag=0.7),
            Effect(f"{part}_outlet_temp_C", 2.0, lag=8),
        ),
    )


def _leak(part: str) -> FaultKind:
    """A seal of a vacuum chamber begins to leak."""
    return FaultKind(
        f"{part}_seal_leak",
        True,
        (5.0, 8.0),
        (
            Effect(f"{part}_pressure_log_mbar", 2.2, chatter=0.3),
            Effect(f"{part}_pump_current_A", 1.2, chatter=0.2),
            Effect(f"{part}_pump_temp_C", 1.2, lag=15),
        ),
    )


@dataclass(frozen=True)
class _Type:
    parts: tuple[tuple[str, str], ...]
    faults: tuple[FaultKind, ...]
    padding: Sensor


_TYPES: dict[str, _Type] = {
    "press": _Type(
        (
            ("main_drive", "drive"),
            ("ram", "hydraulic"),
            ("clamp", "hydraulic"),
            ("cooling", "cooling"),
            ("feed_drive", "drive"),
            ("eject", "hydraulic"),
            ("supply", "supply"),
            ("room", "room"),
            ("oil_cooler", "cooling"),
            *((f"die_zone{i}", "zone") for i in range(1, 5)),
        ),
        (_valve("ram"), _bearing("main_drive"), _fan("cooling"), _filter("clamp")),
        _sensor("frame_strain_um_m", 40, 210, "demand .6 load .3 heat .1", step=0.1, noise=0.02),
    ),
    "pump": _Type(
        (
            ("motor", "drive"),
            ("discharge", "hydraulic"),
            ("suction", "hydraulic"),
            ("cooling", "cooling"),
            ("gear", "drive"),
            ("bypass", "hydraulic"),
            ("supply", "supply"),
            ("room", "room"),
            ("seal_cooler", "cooling"),
        ),
        (_valve("discharge"), _bearing("motor"), _fan("cooling"), _filter("suction")),
        _sensor("casing_vibration_mm_s", 0.2, 0.9, "speed .7 demand .3", step=0.001, noise=0.07, rotating=True, low=0),
    ),
    "microscope": _Type(
        (
            ("chamber", "vacuum"),
            ("cooling", "cooling"),
            ("column", "vacuum"),
            ("laser", "optics"),
            ("stage_x", "axis"),
            ("stage_y", "axis"),
            ("stage_z", "axis"),
            ("camera", "optics"),
            ("airlock", "vacuum"),
            ("supply", "supply"),
            ("room", "room"),
            ("chiller", "cooling"),
            *((f"lens{i}", "zone") for i in range(1, 7)),
        ),
        (_fan("cooling"), _leak("chamber")),
        _sensor("bench_temp_C", 21.8, 1.1, "heat .5 ambient .5", step=0.001, lag=12, noise=0.03),
    ),
}
TYPES: tuple[str, ...] = tuple(_TYPES)


@dataclass(frozen=True)
class Plant:
    """A device type as arrays, ``S`` sensors and ``K`` factors: what :mod:`.device` computes with.

    ``couplings`` float64 ``[K, S]`` in sensor units per factor; ``level``, ``swing``, ``step``, ``lag``, ``noise``,
    ``low``, ``high`` float64 ``[S]``; ``rotating`` bool ``[S]``.
    """

    name: str
    sensors: tuple[str, ...]
    couplings: NDArray[np.float64]
    level: NDArray[np.float64]
    swing: NDArray[np.float64]
    step: NDArray[np.float64]
    lag: NDArray[np.float64]
    noise: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rotating: NDArray[np.bool_]
    faults: tuple[FaultKind, ...]


def plant(name: str, sensors: int = 100) -> Plant:
    """Return the type ``name`` with ``sensors`` sensors: its parts in order, cut off or padded with one kind.

    Sensors of like parts differ by a few per cent, for no two installations are alike. Faults whose first sensor is
    cut off are left out. Raises :class:`ValueError` for an unknown type or too few sensors.
    """
    if name not in _TYPES:
        raise ValueError(f"unknown device type {name!r}: one of {', '.join(TYPES)}")
    if sensors < FEWEST_SENSORS:
        raise ValueError(f"a device needs at least {FEWEST_SENSORS} sensors for its faults to show, not {sensors}")
    kind = _TYPES[name]
    specs = [(f"{prefix}_{sensor.name}", sensor) for prefix, part in kind.parts for sensor in _PARTS[part]]
    stem, _, unit = kind.padding.name.partition("_")
    more = max(0, sensors - len(specs))
    specs += [(f"{stem}{i:02d}_{unit}", kind.padding) for i in range(1, more + 1)]
    specs = specs[:sensors]
    names = tuple(name for name, _ in specs)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    couplings = np.zeros((len(FACTORS), sensors))
    for column, (_, sensor) in enumerate(specs):
        for factor, weight in sensor.couplings:
            couplings[FACTORS.index(factor), column] = weight * sensor.swing
    couplings *= rng.normal(1.0, 0.08, couplings.shape)

    def column_of(field: str) -> NDArray[np.float64]:
        return np.array([getattr(sensor, field) for _, sensor in specs], np.float64)

    faults = (fault for fault in kind.faults if fault.effects[0].sensor in names)
    return Plant(
        name=name,
        sensors=names,
        couplings=couplings,
        level=column_of("level"),
        swing=column_of("swing"),
        step=column_of("step"),
        lag=column_of("lag"),
        noise=column_of("noise"),
        low=column_of("low"),
        high=column_of("high"),
        rotating=np.array([sensor.rotating for _, sensor in specs]),
        faults=tuple(faults),
    )
