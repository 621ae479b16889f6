"""Merging: from a request to a plan, to the executor, to a published soup.

The files by subject:

- commands: average, apply, revise, leave_one_out, sweep, mixture, extract_lora, inspect, query,
  verify, doctor; and the folders ema, recipes, delta, diff, methods
- inputs: ingredients, opened_inputs, donors, aligned, layouts, facts, settings,
  identical, sources, adapter_reader, given_deltas, scaled_deltas, whole_models, sample_weights
- plan: recipe, plan, step, step_weights, blocks (folder), padding, applied_plan, quantised_steps
- preview and measurement: preview, preflight, memory, memory_limit, notes, bench
- job: job, job_files, rounds, run, sum_layouts
- soups that several processes make: parts (folder)
- pass over the data: order, executor, roots, use, shared_content, tensor_pass, mean_writer,
  small_tensors, large_tensors, terms, stored_terms, chunks, weighted_sum, updates,
  exact_quotient, engine
- quantised tensors: scaled_codes, scale_values, schemes, code_writer, code_error, plain_config
- output: destination, output, plane_output, overwrite, companion_files, config_source
- ledger: new_ledger, applied_ledger, applied_sources
- kept sum: kept_sum (folder), applied_sum
- changes of a soup: revision, revised_component, revised_computation, membership,
  added_ingredients, shared_components, whole_digests, added_digest
- questions: answer, data_question, unknown_history, verified_ledger
- proof: rebuild, made_again, recorded_sources
- errors: layout_errors, kind_errors, tensor_errors
"""
