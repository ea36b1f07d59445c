// Classify the ground from analog sensors, 100 times a second, on a 32-bit Arduino board.
//
//   sensorseq export terrain.safetensors --format c --weights int8 -o classify
//
// writes sensorseq_model.h and sensorseq_model.c into the folder of this sketch. Read your sensors
// in readSample, in the order of sensorseq_channel_names and in the same units as in training.
#include "sensorseq_model.h"

const unsigned long PERIOD_US = 10000;  // 1e6 / the model's sample rate in Hz

static sensorseq_state state;
static unsigned long nextSampleUs;

static void readSample(float *sample) {
  for (int c = 0; c < SENSORSEQ_CHANNELS; ++c) {
    sample[c] = analogRead(A0 + c) * (3.3f / 1023.0f);
  }
}

void setup() {
  Serial.begin(115200);
  sensorseq_reset(&state);
  nextSampleUs = micros();
}

void loop() {
  if (static_cast<long>(micros() - nextSampleUs) < 0) return;
  nextSampleUs += PERIOD_US;
  float sample[SENSORSEQ_CHANNELS], probabilities[SENSORSEQ_CLASSES];
  readSample(sample);
  const int result = sensorseq_push(&state, sample, probabilities);
  if (result < 0) sensorseq_reset(&state);  // NaN or infinity: treat it as a gap
  if (result <= 0) return;
  int best = 0;
  for (int k = 1; k < SENSORSEQ_CLASSES; ++k) {
    if (probabilities[k] > probabilities[best]) best = k;
  }
  Serial.print(sensorseq_class_names[best]);
  Serial.print(' ');
  Serial.println(probabilities[best]);
}
