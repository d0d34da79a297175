;; Calls itself for ever.
;; expect: went deeper than the 512KiB of rule.guest.stack
(func $deeper (result i32) (i32.add (call $deeper) (i32.const 1)))
(func $on_null (param $row i32) (drop (call $deeper)))
