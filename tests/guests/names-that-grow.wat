;; Traps deep in a function whose mangled name of some hundred bytes stands for a name without end.
;; expect: unreachable
;; rows: 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null 1 null
;; seconds: 10
(func $deep (@name "_RINvC1a1fTuuETB7_B7_ETBb_Bb_ETBj_Bj_ETBr_Br_ETBz_Bz_ETBH_BH_ETBP_BP_ETBX_BX_ETB15_B15_ETB1d_B1d_ETB1n_B1n_ETB1x_B1x_ETB1H_B1H_ETB1R_B1R_ETB21_B21_ETB2b_B2b_ETB2l_B2l_ETB2v_B2v_ETB2F_B2F_ETB2P_B2P_ETB2Z_B2Z_ETB39_B39_ETB3j_B3j_ETB3t_B3t_ETB3D_B3D_ETB3N_B3N_ETB3X_B3X_ETB47_B47_ETB4h_B4h_EE") (param $n i32)
  (if (i32.eqz (local.get $n)) (then (unreachable)))
  (call $deep (i32.sub (local.get $n) (i32.const 1))))
(func $on_null (param $row i32) (call $deep (i32.const 40)))
