// The part of the Arduino API that the sketch in examples/ needs. Each call of micros() advances
// the time, and an analog pin reads a sawtooth wave.
#pragma once
#include <cstdio>

static const int A0 = 14;
static unsigned long g_micros = 0;

inline unsigned long micros() { return g_micros += 2000; }
inline int analogRead(int pin) { return static_cast<int>(g_micros / 2000 * (pin - 13) % 1024); }

struct SerialPort {
  void begin(long) {}
  void print(const char* text) { std::printf("%s", text); }
  void print(char letter) { std::printf("%c", letter); }
  void println(float value) { std::printf("%.2f\n", static_cast<double>(value)); }
};
static SerialPort Serial;
