"""Adapters for the rest of the world: a PEFT folder, a merged model, a GGUF LoRA for llama.cpp, and the Hub."""
