// Classify samples from stdin with an exported model. Each line of CSV is a sample, with its channels
// in the order of sensorseq_channel_names. The program prints a line for each window: its label, then
// the probability of each class.
//
//   sensorseq export terrain.safetensors --format c -o model
//   gcc -std=c99 -O2 -c model/sensorseq_model.c -o sensorseq_model.o
//   g++ -O2 -Imodel classify.cpp sensorseq_model.o -o classify
//   ./classify < samples.csv
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

#include "sensorseq_model.h"

// Reads one value for each channel; returns the number of values.
static int ReadSample(const std::string &line, float *sample) {
  const char *at = line.c_str();
  int n = 0;
  while (n < SENSORSEQ_CHANNELS) {
    char *end = nullptr;
    sample[n] = std::strtof(at, &end);
    if (end == at) break;
    ++n;
    at = *end == ',' ? end + 1 : end;
  }
  return n;
}

static int Likeliest(const float *probabilities) {
  int best = 0;
  for (int k = 1; k < SENSORSEQ_CLASSES; ++k) {
    if (probabilities[k] > probabilities[best]) best = k;
  }
  return best;
}

int main() {
  static sensorseq_state state;  // a few kilobytes, too many for a small stack
  float sample[SENSORSEQ_CHANNELS], probabilities[SENSORSEQ_CLASSES];
  sensorseq_reset(&state);
  std::string line;
  long number = 0;
  while (std::getline(std::cin, line)) {
    ++number;
    const int n_values = ReadSample(line, sample);
    if (n_values == 0 && number == 1) continue;  // a header
    if (n_values != SENSORSEQ_CHANNELS) {
      std::fprintf(stderr, "line %ld: %d values, expected %d\n", number, n_values,
                   SENSORSEQ_CHANNELS);
      return 1;
    }
    const int result = sensorseq_push(&state, sample, probabilities);
    if (result < 0) {  // NaN or infinity: treat it as a gap
      sensorseq_reset(&state);
    } else if (result > 0) {
      std::printf("%s", sensorseq_class_names[Likeliest(probabilities)]);
      for (int k = 0; k < SENSORSEQ_CLASSES; ++k) {
        std::printf(",%.9g", static_cast<double>(probabilities[k]));
      }
      std::printf("\n");
    }
  }
  return 0;
}
