#include "Arduino.h"
#include "classify.ino"

int main() {
  setup();
  for (int i = 0; i < 5000; ++i) loop();
  return 0;
}
