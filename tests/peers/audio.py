"""Tones and speech: made, read from WAV files, and found again in what was heard. Numpy arrays of ±1, mono, and of 8 kHz
unless another rate is named."""

import subprocess
import wave

import numpy as np

RATE = 8000


def tone(frequency, seconds, level=0.15, rate=RATE):
    return level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def write(path, samples, rate=RATE, channels=1):
    """The same in every channel."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat((np.clip(samples, -1, 1) * 32767).astype("<i2"), channels).tobytes())


def read(path, rate=RATE, channels=1):
    """The first channel of a file that must be as it is said to be."""
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (channels, 2, rate), file.getparams()
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")[::channels] / 32768


def read_narrow(path):
    """What a file of any rate has below 4 kHz."""
    with wave.open(str(path), "rb") as file:
        rate, channels = file.getframerate(), file.getnchannels()
    return _resample(read(path, rate, channels), rate)


def speech(text, voice="en-us"):
    """What espeak-ng makes of a text, at 8 kHz, without the silence around it."""
    said = subprocess.run(["espeak-ng", "-v", voice, "--stdin", "--stdout"], input=text.encode(), capture_output=True, check=True)
    # A WAV file that was streamed does not know its length: its samples begin after the 44 bytes of its header.
    rate = int.from_bytes(said.stdout[24:28], "little")
    samples = np.frombuffer(said.stdout[44 : 44 + (len(said.stdout) - 44) // 2 * 2], "<i2") / 32768
    samples = _resample(samples, rate)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1] + 1]


def heard_tone(samples, frequency, window=0.1, rate=RATE):
    """Goertzel's measure of a tone in each window, as its amplitude."""
    size = int(window * rate)
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    probe = np.exp(-2j * np.pi * frequency * np.arange(size) / rate)
    return 2 * np.abs(blocks @ probe) / size


def steady(levels):
    """How loud a tone is in nine of ten windows: a telephone that makes up for jitter spoils one now and then, by a jump
    in the phase."""
    return float(np.quantile(levels, 0.1))


def without_tone(samples, frequency, width=40):
    """Everything but a tone: its bins, and those next to them, are taken out."""
    spectrum = np.fft.rfft(samples)
    bins = np.fft.rfftfreq(len(samples), 1 / RATE)
    spectrum[np.abs(bins - frequency) < width] = 0
    return np.fft.irfft(spectrum, len(samples))


def find(samples, clip):
    """Where a clip is most like what was heard, in seconds, and how like it is: 1 is a perfect copy at any level."""
    if len(samples) < len(clip):
        return 0.0, 0.0
    size = len(samples) + len(clip)
    product = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(clip, size)), size)[: len(samples) - len(clip) + 1]
    energy = np.concatenate(([0.0], np.cumsum(samples**2)))
    windows = energy[len(clip) :] - energy[: -len(clip)]
    # Below one step of 16 bits there is nothing but rounding.
    floor = len(clip) / 32768**2
    likeness = np.where(windows > floor, product / np.sqrt(np.sum(clip**2) * np.maximum(windows, floor)), 0)
    best = int(np.argmax(likeness))
    return best / RATE, float(likeness[best])


def _resample(samples, rate):
    """By taking the bins below 4 kHz of the whole."""
    size = len(samples) * RATE // rate
    return np.fft.irfft(np.fft.rfft(samples)[: size // 2 + 1], size) * size / len(samples)
